# Two images with the versions of requirements.lock, on which the tests ran.
#
#   docker build --target airflow    -t learning-engine/airflow:0.1.0 .   every role except the GPU worker
#   docker build --target gpu-worker -t learning-engine/gpu-worker:0.1.0 .     the same, with PyTorch and CUDA
#
# The slim base has Airflow without providers: the image contains only what requirements.txt lists.

FROM apache/airflow:slim-3.3.2-python3.11 AS airflow
USER root
# Volumes inherit the owner and mode of these directories: any AIRFLOW_UID can write through group 0.
RUN install -d -o airflow -g 0 -m 2775 /var/lib/learning-engine /var/lib/learning-engine/adapters \
    /var/lib/learning-engine/spool /var/lib/learning-engine/models
USER airflow
COPY requirements.txt requirements.lock /build/
# Everything except the section "# Learning", which needs torch.
RUN sed '/^# Learning/,/^$/d' /build/requirements.txt > /tmp/requirements-airflow.txt \
    && pip install --no-cache-dir --constraint /build/requirements.lock \
    --requirement /tmp/requirements-airflow.txt apache-airflow-providers-fab
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 include /opt/airflow/include

FROM airflow AS gpu-worker
RUN pip install --no-cache-dir --constraint /build/requirements.lock --requirement /build/requirements.txt
