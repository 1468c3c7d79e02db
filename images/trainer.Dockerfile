# The trainer, for CUDA or for CPUs only. Build from the root of the checkout:
#   docker build -f images/trainer.Dockerfile --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) \
#     --build-arg BASE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04@sha256:<digest> -t m2r-train:0.1.0 .
# For CPUs: --build-arg LOCK=trainer-cpu --build-arg PACKAGES= \
#     --build-arg BASE=docker.io/library/python:3.11.13-slim-bookworm@sha256:<digest> -t m2r-train:0.1.0-cpu
# A release names BASE by digest; the default is for a first try. CUDA's libraries come from the
# lock, not from BASE, so that there is one version of each: a `-base-` flavour is enough, and so is
# an image without CUDA; the driver comes from the node.
ARG BASE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04
# Where the libraries are taken from: the stage below, or an image that was made of it before.
ARG RUNTIME=runtime

# The system's Python, and its standard library as byte code (Docker's python images ship none).
FROM ${BASE} AS base
RUN python3 -c 'import ensurepip, ssl, venv' && test -s /etc/ssl/certs/ca-certificates.crt || { \
      apt-get update && \
      apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates && \
      rm -rf /var/lib/apt/lists/*; }
RUN python3 -m compileall -q "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" || true
RUN echo 'm2r:x:65532:0:m2r:/cache:/usr/sbin/nologin' >> /etc/passwd && \
    install -d -m 0775 -o 65532 -g 0 /cache

# uv, at the version and hashes of the lock that `make setup` takes too; and a compiler, for
# libraries that have no wheel and for the stand-ins of the CPU variant.
FROM base AS tools
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    UV_CACHE_DIR=/mnt UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && \
    rm -rf /var/lib/apt/lists/*
COPY requirements/setup.lock /build/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --require-hashes -r /build/setup.lock
RUN python3 -m venv --without-pip /opt/m2r

# What changes seldom: the locked libraries.
FROM tools AS libraries
ARG LOCK=trainer
COPY requirements/${LOCK}.lock /build/
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    /opt/uv/bin/uv pip sync --quiet --require-hashes --python /opt/m2r/bin/python "/build/${LOCK}.lock" && \
    rm /opt/m2r/.lock
COPY images/cuda_stubs.py /build/
RUN case "${LOCK}" in *-cpu) /opt/m2r/bin/python /build/cuda_stubs.py \
      "$(/opt/m2r/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" ;; esac

# What changes often: the project, as a wheel, installed beside the libraries.
FROM tools AS project
ARG SOURCE_DATE_EPOCH
COPY requirements/build.lock /build/
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    python3 -m venv --without-pip /opt/build && \
    /opt/uv/bin/uv pip sync --quiet --require-hashes --python /opt/build/bin/python /build/build.lock
COPY pyproject.toml README.md LICENSE /src/
COPY operator /src/operator
COPY m2r_train /src/m2r_train
RUN cd /src && /opt/build/bin/python -m hatchling build --target wheel --directory /build && \
    /opt/uv/bin/uv pip install --quiet --offline --no-deps --no-index --prefix /opt/project \
      --python /opt/m2r/bin/python /build/*.whl && \
    rm -f /opt/project/.lock

# What changes seldom, without what made it.
FROM base AS runtime
# Triton compiles its launchers at run time; on CPUs nothing does.
ARG PACKAGES="gcc libc6-dev python3-dev"
RUN test -z "${PACKAGES}" || { apt-get update && \
      apt-get install --yes --no-install-recommends ${PACKAGES} && rm -rf /var/lib/apt/lists/*; }
COPY --from=libraries /opt/m2r /opt/m2r

FROM ${RUNTIME} AS trainer
COPY --from=project /opt/project /opt/m2r
# Byte code is there already and the root is read-only; what is written goes to /cache and /tmp,
# which are volumes in a pod. No GPU unless the pod asks for one: the device plugin sets the last.
ENV PATH=/opt/m2r/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1 \
    USER=m2r HOME=/cache XDG_CACHE_HOME=/cache TMPDIR=/tmp M2R_CACHE=/cache/m2r \
    HF_HOME=/cache/huggingface HF_HUB_DISABLE_TELEMETRY=1 TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/torchinductor CUDA_CACHE_PATH=/cache/cuda \
    VLLM_CACHE_ROOT=/cache/vllm VLLM_NO_USAGE_STATS=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility NVIDIA_VISIBLE_DEVICES=void
WORKDIR /tmp
USER 65532:0
EXPOSE 9400
# Last, so that a new revision costs no copy of the libraries.
ARG BASE
ARG VERSION
ARG REVISION=unknown
ARG SOURCE_DATE=unknown
LABEL org.opencontainers.image.title="m2r-train" \
      org.opencontainers.image.description="The M2R trainer: synthesis, SFT, RLVR and evaluation" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${SOURCE_DATE}" \
      org.opencontainers.image.base.name="${BASE}"
# `m2r stage` is process 1 and handles SIGTERM itself: see README.md, "Process 1".
ENTRYPOINT ["m2r"]
CMD ["--help"]
