# One image for the deployment and every service; the command says which: python3 -m data_owner --host 0.0.0.0.
FROM python:3.11.15-slim-bookworm

# A new volume at /data takes over owner and mode.
RUN useradd --uid 1000 --no-create-home deltaml \
    && install --directory --owner deltaml --group deltaml --mode 700 /data

WORKDIR /app

# Before the code: installed again only when the lock changes. Wheels only, so that no compiler is ever needed.
COPY requirements.lock .
RUN pip install --no-cache-dir --root-user-action ignore --only-binary :all: --require-hashes --requirement requirements.lock

# Run from here, not installed: the contract's artefact is found beside the packages.
COPY contracts/Marketplace.json contracts/
COPY commons commons
COPY federated_aggregator federated_aggregator
COPY model_buyer model_buyer
COPY data_owner data_owner
RUN python3 -m compileall -q .

USER deltaml
ENV DELTAML_DATA_DIR=/data PYTHONUNBUFFERED=1
VOLUME /data
