# The project with everything that it needs, for CPUs or for NVIDIA's GPUs; the packaged model is in it.
#   docker build --build-arg DEVICE=cpu  --build-arg GIT_COMMIT=$(git rev-parse HEAD) -t cops-inspection:0.1.0-cpu .
#   docker build --build-arg DEVICE=cuda --build-arg GIT_COMMIT=$(git rev-parse HEAD) -t cops-inspection:0.1.0-cuda .
# A mirror of PyPI and of PyTorch's CPU wheels: --build-arg PIP_INDEX_URL=…, --build-arg TORCH_CPU_INDEX=…

# The base's tag moves with its fixes: docs/nightly.md says how to pin it.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS build
ARG DEVICE=cpu
ARG PIP_INDEX_URL
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/cops
ENV PATH=/opt/cops/bin:$PATH
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# PyPI's torch brings CUDA's libraries, gigabytes of them. Wheels of the same versions from PyTorch's CPU index bring none,
# and pip takes 2.15.0+cpu for the 2.15.0 of constraints.txt.
RUN case "$DEVICE" in \
      cpu)  sed -n 's/^\(torch\|torchvision\)==.*/&+cpu/p' constraints.txt > torch.txt && \
            pip install --index-url "$TORCH_CPU_INDEX" --no-deps -r torch.txt ;; \
      cuda) ;; \
      *)    echo "DEVICE: expected cpu or cuda, got '$DEVICE'" >&2; exit 2 ;; \
    esac
# What pyproject.toml needs, before the sources are there: they change daily, and this layer stays.
RUN python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["s3"], sep="\n")' > needed.txt && \
    pip install -c constraints.txt -r needed.txt
COPY cops cops
COPY pipeline pipeline
RUN pip install --no-deps .

FROM python:${PYTHON}-slim-bookworm
ARG GIT_COMMIT=""
# wget and bash are what KubeRay's probes and start commands call.
RUN apt-get update -qq && \
    apt-get install -qq -y --no-install-recommends wget=1.* && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --user-group --create-home --shell /bin/bash cops
COPY --from=build /opt/cops /opt/cops
WORKDIR /app
COPY jobs jobs
COPY queries queries
COPY deploy deploy
ENV PATH=/opt/cops/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    COPS_GIT_COMMIT=$GIT_COMMIT
USER 10001:10001
CMD ["python", "jobs/score.py", "--help"]
