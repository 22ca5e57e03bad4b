import numpy as np

from aitax_ray.evaluation.neighbors import TEMPERATURE, Neighbors, Vote, choose_vote

NUM_TRAIN = np.array([100, 4, 1])


def test_a_neighbor_weighs_less_the_farther_it_is_and_the_more_common_its_species() -> None:
    neighbors = Neighbors(np.array([[0, 1, 1]]), np.array([[0.9, 0.9, 0.9 - TEMPERATURE]], np.float32))
    weights = np.array([1 / 10, 1 / 2, np.exp(-1) / 2])
    np.testing.assert_allclose(neighbors.weights(0.5, NUM_TRAIN)[0], weights / weights.sum(), rtol=1e-5)
    votes = neighbors.votes(0.5, NUM_TRAIN)[0]
    np.testing.assert_allclose(votes, [weights[0] / weights.sum(), weights[1:].sum() / weights.sum(), 0], rtol=1e-5)


def test_neighbors_that_were_not_found_do_not_vote() -> None:
    neighbors = Neighbors(np.array([[1, -1], [-1, -1]]), np.array([[0.5, np.nan], [np.nan, np.nan]], np.float32))
    assert neighbors.votes(1.0, NUM_TRAIN).tolist() == [[0, 1, 0], [0, 0, 0]]
    assert Neighbors(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.float32)).votes(0, NUM_TRAIN).sum() == 0


def test_a_vote_that_is_right_where_the_classifier_is_not_gets_a_share() -> None:
    chance = np.random.default_rng(0)
    target = chance.integers(0, 3, 200)
    score = np.where(chance.random(200) < 0.7, 0.9, 0.05)
    helpful = Neighbors(target[:, None], np.full((200, 1), 0.8, np.float32))
    assert choose_vote(helpful, target, score, NUM_TRAIN, np.arange(200)).share == 0.5
    useless = Neighbors(chance.integers(0, 3, (200, 1)), np.full((200, 1), 0.8, np.float32))
    assert choose_vote(useless, target, np.full(200, 0.99), NUM_TRAIN, np.arange(200)) == Vote(share=0)
    assert choose_vote(helpful.select(np.arange(1)), target[:1], score[:1], NUM_TRAIN, np.arange(1)) == Vote(share=0)


def test_the_power_that_suits_rare_species_is_found() -> None:
    """Each photograph of the rare species has one neighbour of its own and two of the common one, all equally near."""
    target = np.full(50, 2)
    neighbors = Neighbors(np.tile([[0, 0, 2]], (50, 1)), np.full((50, 3), 0.8, np.float32))
    assert choose_vote(neighbors, target, np.linspace(0.01, 0.1, 50), NUM_TRAIN, np.arange(50)).power == 1


def test_a_vote_that_helps_with_the_photographs_of_one_occurrence_only_gets_no_share() -> None:
    target, nearest = np.zeros(40, np.int64), np.r_[np.zeros(24, np.int64), np.ones(16, np.int64)]
    neighbors = Neighbors(nearest[:, None], np.full((40, 1), 0.8, np.float32))
    score = np.full(40, 0.5)
    assert choose_vote(neighbors, target, score, NUM_TRAIN, np.arange(40)).share > 0
    assert choose_vote(neighbors, target, score, NUM_TRAIN, nearest).share == 0
