"""Where a served chat model is, and how hard it may be asked."""

from pydantic import BaseModel, ConfigDict, Field


class ServerSettings(BaseModel):
    """An OpenAI-compatible server, such as vLLM's, that answers instead of a model in this process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = Field(description="ends in /v1 on most servers")
    api_key_env: str | None = Field(default=None, description="name of the environment variable with the key")
    max_in_flight: int = Field(
        default=64, gt=0, description="half as many again as the server answers at once, so that no slot of it waits"
    )
    timeout_s: float = Field(default=120.0, gt=0, description="one attempt as a whole; long for a cold server's first")
    attempts: int = Field(default=5, gt=0, description="about ten seconds of pauses: a restart of a proxy, no outage")
    max_pixels: int | None = Field(default=None, gt=0, description="larger images are scaled down before sending")
    json_schema: bool = Field(default=True, description="whether the server takes JSON schemas")
    images_through: str | None = Field(
        default=None,
        pattern="^s3://",
        description="s3://bucket/prefix: images are put there and sent as links; default: inside the request",
    )
    link_expires_s: int = Field(default=3600, gt=0, description="how long such a link can be read")
