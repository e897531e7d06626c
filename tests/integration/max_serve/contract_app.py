"""MAX Serve 26.7.0's real LoRA routes without a GPU and without compiling a model; runs in MAX's own environment.

Real: the OpenAI router, the LoRA request processor, LoRAManagerV3. Replaced: the queue between them. The base model
is described, not loaded, so nothing is generated. /without-lora has the same routes with LoRA disabled.
A truncated safetensors file crashes this process, as it crashes the real server.
"""

import types

from fastapi import FastAPI, HTTPException
from max.dtype import DType
from max.pipelines.lib import PipelineConfig
from max.pipelines.lora import LoRAConfig, LoRAManagerV3, LoRAOperation, LoRAStatus
from max.serve.api_server import _openai_http_exception_handler, health
from max.serve.request import register_request
from max.serve.router import openai_routes
from max.serve.worker_interface.lora_request_processor import LoRARequestProcessor

BASE = "base"


class InProcessQueue:
    """Replaces the server's worker queue between router and processor, and keeps the same list of loaded adapters."""

    def __init__(self) -> None:
        lora = LoRAConfig(enable_lora=True, max_num_loras=2, max_lora_rank=16)
        self._processor = object.__new__(LoRARequestProcessor)
        # The shape of a float32 Llama with 4 heads of size 16 and 2 key-value heads.
        self._processor.manager = LoRAManagerV3(lora, BASE, DType.float32, 4, 2, 16, 512)
        self._loaded: list[str] = []

    def list_loras(self) -> list[str]:
        return self._loaded

    async def get_response(self, request_id, request, timeout=30.0):
        response = self._processor._handle_lora_request(request)
        if response.status == LoRAStatus.SUCCESS:
            change = self._loaded.append if request.operation == LoRAOperation.LOAD else self._loaded.remove
            change(request.lora_name)
        return response


def make_app(lora_queue: InProcessQueue | None) -> FastAPI:
    app = FastAPI()
    register_request(app)
    app.add_exception_handler(HTTPException, _openai_http_exception_handler)
    app.add_api_route("/health", health)
    app.include_router(openai_routes.router)
    runtime = types.SimpleNamespace(allow_extra_request_fields=False)
    app.state.pipeline_config = PipelineConfig.model_construct(runtime=runtime)
    app.state.memory_plan = None
    app.state.pipeline = types.SimpleNamespace(model_name=BASE, lora_queue=lora_queue, tokenizer=None)
    return app


app = make_app(InProcessQueue())
app.mount("/without-lora", make_app(None))
