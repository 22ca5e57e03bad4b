"""All reasons for leaving a stored photograph out of the data set, in the order in which they are checked."""

NOT_IN_MANIFEST = "not_in_manifest"
BOOK_PAGE = "book_page"
SONOGRAM = "sonogram"
THUMBNAIL = "thumbnail"
NEAR_UNIFORM = "near_uniform"
LABEL = "label"
DRAWING = "drawing"
CONFLICT = "conflict"
LICENSE = "license"
NOT_IN_SPLIT_FILE = "not_in_split_file"
MACHINE_LABEL = "machine_label"
NOT_VERIFIED = "not_verified"
EXACT_DUPLICATE = "exact_duplicate"
NEAR_DUPLICATE = "near_duplicate"
ABOVE_MAX_IMAGES = "above_max_images"
TOO_FEW_IMAGES = "species_with_too_few_images"
DOUBTFUL_LABEL = "doubtful_label"
HELD_OUT = "held_out_species"
NO_TRAINING_IMAGES = "species_without_training_images"

# Every reason with its meaning.
REASONS = {
    NOT_IN_MANIFEST: "the manifest does not list it any more",
    BOOK_PAGE: "a page of a book, a ledger or field notes",
    SONOGRAM: "a picture of a sound",
    THUMBNAIL: "smaller than --min-side",
    NEAR_UNIFORM: "hardly anything but one colour is on it",
    LABEL: "its title or description says that it shows a label or a document",
    DRAWING: "its title or description says that it is a drawing or a painting",
    CONFLICT: "photographs that look the same stand under several species",
    LICENSE: "its licence is not among those that --license admits",
    NOT_IN_SPLIT_FILE: "--split-file does not name it",
    MACHINE_LABEL: "a program identified it, and --labels not-machine leaves such out",
    NOT_VERIFIED: "nobody verified its label, and --labels verified asks for that",
    EXACT_DUPLICATE: "the same pixels as a photograph of the species that is kept",
    NEAR_DUPLICATE: "looks the same as a photograph of the species that is kept",
    ABOVE_MAX_IMAGES: "its species has more than --max-images without it",
    TOO_FEW_IMAGES: "its species has fewer than --min-images",
    DOUBTFUL_LABEL: "its label is a program's or disputed, and what it belongs to is for validation or the test",
    HELD_OUT: "its species is held out by --holdout-species, to measure what the engine says of unknown species",
    NO_TRAINING_IMAGES: "its species would have no photograph to train on",
}
