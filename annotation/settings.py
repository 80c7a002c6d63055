"""What the annotation room lets a user choose."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class AnnotationSettings(BaseModel):
    """Where Label Studio is, and how many people look at each image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(default=None, description="a server that runs already; default: a local one is started")
    token_env: str = Field(
        default="LABEL_STUDIO_API_KEY", description="environment variable with the token for `url` (never in a file)"
    )
    port: int = Field(default=8080, gt=0, lt=65536, description="port of the local server, on 127.0.0.1")
    executable: Path = Field(
        default=Path(".venv-label-studio/bin/label-studio"), description="the local server's program"
    )
    start_timeout_s: float = Field(default=300, gt=0, description="the first start creates a database: about a minute")
    project: str = Field(default="guardset", min_length=1, description="how the project is called on the server")
    overlap: int = Field(default=2, ge=1, description="people who label each image")
    min_votes: int = Field(default=2, ge=1, description="equal votes that make a label")
    batch_size: int = Field(default=500, gt=0, le=500, description="tasks per import call")
