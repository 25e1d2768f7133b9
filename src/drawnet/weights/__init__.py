"""Trained models that come with the package: .safetensors files, each with its card (.json)."""

from pathlib import Path

FOLDER = Path(__file__).parent


def bundled() -> dict[str, Path]:
    """Return name -> file."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
