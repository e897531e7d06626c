# Two images, one set of versions: requirements.lock, the set that the tests ran on.
#
#   docker build --target airflow    -t learning-engine/airflow:0.1.0 .   every role but the GPU's
#   docker build --target gpu-worker -t learning-engine/gpu-worker:0.1.0 .     the same, and PyTorch with CUDA
#
# The slim base holds Airflow and no providers: what is not in requirements.txt is not in the image.

FROM apache/airflow:slim-3.3.2-python3.11 AS airflow
USER root
# Volumes take over these directories' owner and mode: any AIRFLOW_UID writes through group 0.
RUN install -d -o airflow -g 0 -m 2775 /var/lib/learning-engine /var/lib/learning-engine/adapters \
    /var/lib/learning-engine/spool /var/lib/learning-engine/models
USER airflow
COPY requirements.txt requirements.lock /build/
# Everything but the section "# Learning", which is what needs torch.
RUN sed '/^# Learning/,/^$/d' /build/requirements.txt > /tmp/requirements-airflow.txt \
    && pip install --no-cache-dir --constraint /build/requirements.lock \
    --requirement /tmp/requirements-airflow.txt apache-airflow-providers-fab
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 include /opt/airflow/include

FROM airflow AS gpu-worker
RUN pip install --no-cache-dir --constraint /build/requirements.lock --requirement /build/requirements.txt
