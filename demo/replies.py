"""Generated tokens as responses of OpenAI's API: complete answers, and server-sent events."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any


class Reply:
    """One answer of at most `limit` tokens, of a chat or of a plain completion."""

    def __init__(self, model: str, decode: Callable[[list[int]], str], *, limit: int, chat: bool) -> None:
        self._decode, self._limit, self._chat = decode, limit, chat
        self._head = {"id": uuid.uuid4().hex, "created": int(time.time()), "model": model}

    def whole(self, tokens: list[int], prompt_tokens: int) -> dict[str, Any]:
        text = self._decode(tokens)
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(tokens),
            "total_tokens": prompt_tokens + len(tokens),
        }
        if self._chat:
            content: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
            return {**self._body("chat.completion", content, self._reason(tokens)), "usage": usage}
        return {**self._body("text_completion", {"text": text}, self._reason(tokens)), "usage": usage}

    def stream(self, tokens: Iterator[int]) -> Iterator[str]:
        so_far: list[int] = []
        sent = ""
        for token in tokens:
            so_far.append(token)
            text = self._decode(so_far)
            # A character of several tokens is sent once its last token exists.
            if not text.endswith("\N{REPLACEMENT CHARACTER}"):
                yield self._event(text[len(sent) :], None)
                sent = text
        yield self._event(self._decode(so_far)[len(sent) :], self._reason(so_far))
        yield "data: [DONE]\n\n"

    def _event(self, text: str, reason: str | None) -> str:
        if self._chat:
            body = self._body("chat.completion.chunk", {"delta": {"role": "assistant", "content": text}}, reason)
        else:
            body = self._body("text_completion", {"text": text}, reason)
        return f"data: {json.dumps(body)}\n\n"

    def _body(self, kind: str, content: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {**self._head, "object": kind, "choices": [{"index": 0, **content, "finish_reason": reason}]}

    def _reason(self, tokens: list[int]) -> str:
        return "length" if len(tokens) == self._limit else "stop"
