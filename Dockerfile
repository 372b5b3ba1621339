# OrderStream in an image. Alone it runs everything embedded, with its data in the volume /data:
#
#   docker build -t orderstream .
#   docker run -p 127.0.0.1:8080:8080 -p 127.0.0.1:50051:50051 -v orders:/data orderstream
#
# compose.yaml runs its roles as separate processes.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential libssl-dev perl pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The target folder is a cache mount, which is not part of the image, so the binary is copied out of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --features kafka-tls \
    && cp target/dist/orderstream /usr/local/bin/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 10001 -g 10001 /data
COPY --from=build /usr/local/bin/orderstream /usr/local/bin/
# A number, so that a cluster with `runAsNonRoot` can verify that it is not root.
USER 10001:10001
ENV BIND=0.0.0.0 DATA_DIR=/data LOG_FORMAT=json
VOLUME /data
EXPOSE 8080 8081 50051
# The shell's own sockets, because the image does not have an HTTP client.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["bash", "-c", "\
    exec 3<>/dev/tcp/127.0.0.1/${API_PORT:-8080} \
    && printf 'GET /health/ready HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 \
    && read -r _ status _ <&3 && [ $status = 200 ]"]
ENTRYPOINT ["orderstream"]
CMD ["up"]
