"""The peer of bench_serving.py: what one writes in an hour, with FastAPI, uvicorn and PyTorch in eager mode.

python benchmarks/plain_server.py PORT ARCH NUM_CLASSES       POST /identify with the part `image`
"""

import io
import sys

import torch
import torchvision
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision.transforms import v2

port, arch, num_classes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
model = torchvision.models.get_model(arch, num_classes=num_classes).eval()
device = "cuda" if torch.cuda.is_available() else "cpu"
model = model.to(device)
names = [f"species {number}" for number in range(num_classes)]
transform = v2.Compose(
    [
        v2.Resize(256),
        v2.CenterCrop(224),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
app = FastAPI()


@app.post("/identify")
def identify(image: UploadFile) -> list[dict[str, object]]:
    """Name the five most probable species."""
    photo = Image.open(io.BytesIO(image.file.read())).convert("RGB")
    with torch.inference_mode():
        scores, classes = model(transform(photo)[None].to(device)).softmax(1)[0].topk(5)
    return [{"name": names[number], "score": score} for number, score in zip(classes.tolist(), scores.tolist())]  # noqa: B905


uvicorn.run(app, port=port, log_level="warning")
