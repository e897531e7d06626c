"""A local server with MAX Serve 26.7.0's LoRA interface, which generates text on the CPU.

    python -m demo.model_server --model DIR --name tiny --port 8200 --max-loras 2 --max-lora-rank 16

MAX's own LoRA kernels need a GPU. Status codes, bodies and hazards are those observed on the real server;
tests/serving/contract.py tests both against one table. `--hazards none` makes it a well-behaved server.
"""

import argparse
import os
import socket
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from transformers.utils.logging import disable_progress_bar

from demo.adapters import Refused
from demo.model_engine import HAZARDS, Engine
from demo.replies import Reply

ERROR_TYPES = {404: "not_found_error", 409: "conflict_error"}


class RequestBody(BaseModel):
    """A request body; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Load(RequestBody):
    lora_name: str
    lora_path: str


class Unload(RequestBody):
    lora_name: str


class Message(RequestBody):
    role: str
    content: str


class Sampling(RequestBody):
    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    seed: int | None = None
    stream: bool = False


class Chat(Sampling):
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)


class Completion(Sampling):
    prompt: str


def engine_of(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


Served = Annotated[Engine, Depends(engine_of)]
routes = APIRouter()


@routes.get("/health")
def health() -> Response:
    return Response()


@routes.get("/v1/models")
def models(engine: Served) -> dict[str, Any]:
    return {"object": "list", "data": [card(name) for name in engine.models()]}


@routes.get("/v1/models/{name}")
def model(name: str, engine: Served) -> dict[str, Any]:
    # The real server does not list its adapters here.
    if name != engine.name:
        raise HTTPException(404)
    return card(name)


@routes.post("/v1/load_lora_adapter")
def load(body: Load, engine: Served) -> dict[str, str]:
    engine.load(body.lora_name, body.lora_path)
    return success(f"LoRA adapter '{body.lora_name}' loaded successfully")


@routes.post("/v1/unload_lora_adapter")
def unload(body: Unload, engine: Served) -> dict[str, str]:
    engine.unload(body.lora_name)
    return success(f"LoRA adapter '{body.lora_name}' unloaded successfully")


@routes.post("/v1/chat/completions", response_model=None)
def chat(body: Chat, engine: Served) -> Response:
    messages = [message.model_dump() for message in body.messages]
    text = engine.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return answer(engine, body, text, max_tokens=body.max_completion_tokens or body.max_tokens, chat=True)


@routes.post("/v1/completions", response_model=None)
def completion(body: Completion, engine: Served) -> Response:
    return answer(engine, body, body.prompt, max_tokens=body.max_tokens or 16, chat=False)


def make_app(engine: Engine) -> FastAPI:
    """An app with MAX Serve's routes over `engine`, and its error format."""
    app = FastAPI(title="MAX Serve's LoRA contract")
    app.state.engine = engine
    app.include_router(routes)

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> JSONResponse:
        return error_response(error.status, error.message)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(400, str(error))

    @app.exception_handler(HTTPException)
    def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, error.detail)

    return app


def answer(engine: Engine, body: Sampling, text: str, *, max_tokens: int | None, chat: bool) -> Response:
    """Generate after `text`: the complete answer as JSON, or its pieces as server-sent events."""
    if body.model not in ("", *engine.models()):
        raise Refused(400, "Value error.")
    prompt = engine.tokenizer.encode(text, add_special_tokens=not chat)
    limit = min(max_tokens or engine.max_length, engine.max_length - len(prompt))
    if limit < 1:
        raise Refused(400, f"Expected a prompt shorter than {engine.max_length} tokens, found {len(prompt)}.")
    tokens = engine.generate(body.model, prompt, max_tokens=limit, temperature=body.temperature, seed=body.seed)
    reply = Reply(body.model, engine.decode, limit=limit, chat=chat)
    if body.stream:
        return StreamingResponse(reply.stream(tokens), media_type="text/event-stream")
    return JSONResponse(reply.whole(list(tokens), len(prompt)))


def card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "", "max_model_len": None}


def success(message: str) -> dict[str, str]:
    return {"status": "success", "message": message}


def error_response(status: int, message: str) -> JSONResponse:
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    body = {"code": str(status), "message": message, "param": "", "type": kind}
    return JSONResponse({"error": body}, status_code=status)


class Server(uvicorn.Server):
    """Prints its address once it listens, and exits at the first signal: there is nothing to save."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for bound in sockets or []:
            print(f"Model server: http://127.0.0.1:{bound.getsockname()[1]}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        os._exit(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal; `arguments` replace those of the command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.model_server", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="directory of the base model")
    parser.add_argument("--name", required=True, help="the base model's name in /v1/models")
    parser.add_argument("--port", type=int, default=8200, help="on 127.0.0.1; 0 picks a free one")
    parser.add_argument(
        "--max-loras", type=int, default=1, help="0 disables LoRA; more adapters than this are swapped in and out"
    )
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument(
        "--hazards", default=",".join(HAZARDS), help=f"faults to reproduce, from {', '.join(HAZARDS)}; or none"
    )
    options = parser.parse_args(arguments)
    disable_progress_bar()
    warnings.filterwarnings("ignore", message="Already found a `peft_config`")
    hazards = frozenset(options.hazards.split(",")) - {"none", ""}
    if hazards - HAZARDS.keys():
        parser.error(f"--hazards: expected some of {', '.join(HAZARDS)}, or none; found {options.hazards}")
    engine = Engine(
        options.model,
        options.name,
        max_loras=options.max_loras,
        max_rank=options.max_lora_rank,
        hazards=hazards,
    )
    config = uvicorn.Config(make_app(engine), host="127.0.0.1", port=options.port, log_level="warning")
    Server(config).run(sockets=[config.bind_socket()])


if __name__ == "__main__":
    main()
