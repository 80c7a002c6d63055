# The worker of docker-compose.yml: guardset, and what it needs to run its stages on a CPU or an NVIDIA GPU.
FROM python:3.11.13-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 PREFECT_HOME=/tmp/prefect
WORKDIR /opt/guardset
COPY pyproject.toml constraints.txt README.md LICENSE guardset.py ./
COPY annotation annotation
COPY editing editing
COPY flows flows
COPY guard guard
COPY micro micro
COPY models models
COPY policies policies
COPY recaption recaption
COPY reporting reporting
COPY storage storage
# Installed editable: prompts, policies and weights are read from their folders.
RUN pip install -c constraints.txt -e '.[ray]' \
    && useradd --uid 1000 --create-home guardset \
    && mkdir /models && chown guardset /models
USER guardset
CMD ["guardset", "--help"]
