"""The other peer of bench_serving.py: the same model in LitServe, batched, with a process per core that decodes.

python benchmarks/litserve_server.py PORT ARCH NUM_CLASSES       POST /identify with the part `image`
"""

import io
import os
import sys
from typing import Any

import litserve
import torch
import torchvision
from fastapi import Request
from PIL import Image
from torchvision.transforms import v2

TRANSFORM = v2.Compose(
    [
        v2.Resize(256),
        v2.CenterCrop(224),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class Identify(litserve.LitAPI):
    """The model behind LitServe's queue."""

    def setup(self, device: str) -> None:
        """Load the model in each worker."""
        torch.set_num_threads(1)
        self.model = torchvision.models.get_model(sys.argv[2], num_classes=int(sys.argv[3])).eval()
        self.model, self.device = self.model.to(device), device

    def decode_request(self, request: Request) -> torch.Tensor:
        """Decode a photograph."""
        return TRANSFORM(Image.open(io.BytesIO(request["image"].file.read())).convert("RGB"))

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Join photographs."""
        return torch.stack(inputs)

    def predict(self, x: torch.Tensor) -> Any:
        """Compute the best five of each."""
        with torch.inference_mode():
            return torch.stack(self.model(x.to(self.device)).softmax(1).topk(5), dim=1).cpu()

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Part the answers."""
        return list(output)

    def encode_response(self, output: torch.Tensor) -> list[dict[str, object]]:
        """Write an answer."""
        return [{"name": f"species {int(n)}", "score": float(s)} for s, n in zip(*output, strict=True)]


if __name__ == "__main__":
    api = Identify(max_batch_size=8, batch_timeout=0.005, api_path="/identify")
    server = litserve.LitServer(api, accelerator="auto", workers_per_device=os.cpu_count() or 1)
    server.run(port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
