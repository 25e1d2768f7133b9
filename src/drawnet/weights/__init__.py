"""Trained models that come with the package, each a .safetensors file with its card (.json)."""

from pathlib import Path

FOLDER = Path(__file__).parent


def bundled() -> dict[str, Path]:
    """Name -> file."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
