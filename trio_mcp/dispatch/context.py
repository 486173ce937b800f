"""`Context`: what a handler knows of its request, and how it sends messages and questions to the client."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, SupportsFloat, TypeVar, cast, overload

import trio
from pydantic import BaseModel

from trio_mcp.dispatch import speech
from trio_mcp.dispatch.elicitation import Elicited, Form, read_action
from trio_mcp.dispatch.feature_methods import read
from trio_mcp.dispatch.questions import as_messages, ask, read_answer, require
from trio_mcp.dispatch.request_view import RequestView
from trio_mcp.dispatch.speech import Extra
from trio_mcp.protocol import field_versions
from trio_mcp.protocol.envelope import LEVELS, LogLevel, at_least
from trio_mcp.protocol.jsonrpc import encode_notification
from trio_mcp.protocol.methods import NOTIFICATIONS
from trio_mcp.protocol.types import CreateMessageResult, Root, SamplingMessage
from trio_mcp.protocol.versions import V2025_11_25
from trio_mcp.protocol.wire import to_wire
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.bus import ListChanged, ResourceUpdated
from trio_mcp.streams.loop import in_loop

__all__ = ["Context"]

M = TypeVar("M", bound=BaseModel)

DEFAULT_MAX_TOKENS = 512
"""Of `sample`: the protocol requires a bound. FastMCP has the same."""

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    App = TypeVarWithDefault("App", default=Any)
else:
    App = TypeVar("App")


class Context(RequestView, Generic[App]):
    """One request, as its handler sees it. A parameter annotated with it receives it, whatever the parameter's name.

    `elicit`, `elicit_url`, `sample` and `list_roots` ask the client. On sessions (up to 2025-11-25) they wait for its answer, at most
    `Options.request_timeout` seconds. On 2026-07-28 **the handler ends at the question and runs again from its start** when the
    answer is there (basic/patterns/mrtr): code before a question runs once more for each question, so keep effects behind the last
    one, or make them repeatable. Answers are matched by the order of the questions; when that may differ between runs, or questions
    are asked at the same time, give each a `key=`.

    The async methods belong to the event loop; in another thread they raise RuntimeError, which says what to write there.

    `Context[App]` tells type checkers that the lifespan yields an `App`; at run time the brackets change nothing.
    """

    _spoken_name = "ctx"

    if not TYPE_CHECKING:

        def __class_getitem__(cls, _: Any) -> type:
            return cls

    def __repr__(self) -> str:
        # No arguments and no ids of sessions: it may be logged.
        return f"<Context {self._call.label} {self.request_id!r} {self.protocol_version}>"

    @property
    def request_context(self) -> Context[App]:
        """This context, for what other packages keep behind it: `lifespan_context`, `session`, `request_id`, `meta`."""
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = _ELSEWHERE.get(name)
            raise AttributeError(f"Context has no {name}" + (f": {hint}" if hint else ""))

    @property
    def lifespan_context(self) -> App:
        """What the server's `lifespan=` yielded; None without one."""
        return cast("App", self._call.service.lifespan_context)

    @in_loop
    async def report_progress(
        self, progress: SupportsFloat, total: SupportsFloat | None = None, message: str | None = None
    ) -> None:
        """Send how far the request is, if its client asked for it with a `progressToken` (basic/utilities/progress).

        `progress` and `total` are numbers of any type, in any unit; `message` is for people, and sent from 2025-03-26 on. In a task,
        these three become its status message.

        Never fails for what it is given. A `progress` that does not grow is not sent; nor is what is no finite number, and the log warns
        of that once for each tool. Raises SlowReader on 2026-07-28 when the client stopped reading.
        """
        call = self._call
        token = call.progress_token
        if token is None and call.task_id is None:
            return await trio.lowlevel.checkpoint()
        params = speech.progress(call.service.warned_handlers, call.label, progress, total, message)
        if params is not None and call.background is not None and call.task_id is not None:
            call.background.report(speech.progress_text(params))
            return await trio.lowlevel.checkpoint()
        if params is None or (call.progress is not None and params["progress"] <= call.progress):
            return await trio.lowlevel.checkpoint()
        call.progress = params["progress"]
        params["progressToken"] = token
        known = field_versions.progress(params, call.version)
        call.emit(encode_notification("notifications/progress", known), Kind.LATEST, ("progress", token))
        await call.outbox.wait_for_reader()

    @in_loop
    async def log(
        self,
        level: LogLevel,
        data: Any,
        logger: str | None = None,
        *,
        logger_name: str | None = None,
        extra: Extra = None,
    ) -> None:
        """Send a log message, if the client wants that level (server/utilities/logging). In a task, write it to the server's log.

        `level` is debug, info, notice, warning, error, critical, alert or emergency; ValueError for any other. `data` may be
        anything: what has no JSON is its `str`. What cannot be sent at all is dropped, and the log warns of it once for each tool.
        `logger` names where the message comes from; `logger_name` is the same by another name. With `extra`, a mapping, the
        client receives an object of it and `message`, which is `data`. Raises SlowReader as `report_progress` does.
        """
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
        call = self._call
        threshold = call.log_level if call.session is None else call.session.log_level
        if call.task_id is not None:
            threshold = "debug"  # It goes to the server's log, which has a level of its own.
        if threshold is None or not at_least(level, threshold):
            return await trio.lowlevel.checkpoint()
        name = logger or logger_name
        params = speech.message(call.service.warned_handlers, call.label, level, data, name, extra)
        if params is None:
            return await trio.lowlevel.checkpoint()
        if call.task_id is not None:
            speech.log_here(call.label, params, task=call.task_id)
            return await trio.lowlevel.checkpoint()
        call.emit(encode_notification("notifications/message", params), Kind.LOG)
        await call.outbox.wait_for_reader()

    @in_loop
    async def debug(
        self, data: Any, logger: str | None = None, *, logger_name: str | None = None, extra: Extra = None
    ) -> None:
        """`log("debug", …)`."""
        await self.log("debug", data, logger or logger_name, extra=extra)

    @in_loop
    async def info(
        self, data: Any, logger: str | None = None, *, logger_name: str | None = None, extra: Extra = None
    ) -> None:
        """`log("info", …)`."""
        await self.log("info", data, logger or logger_name, extra=extra)

    @in_loop
    async def warning(
        self, data: Any, logger: str | None = None, *, logger_name: str | None = None, extra: Extra = None
    ) -> None:
        """`log("warning", …)`."""
        await self.log("warning", data, logger or logger_name, extra=extra)

    @in_loop
    async def error(
        self, data: Any, logger: str | None = None, *, logger_name: str | None = None, extra: Extra = None
    ) -> None:
        """`log("error", …)`."""
        await self.log("error", data, logger or logger_name, extra=extra)

    @overload
    async def elicit(self, message: str, schema: type[M], *, key: str | None = None) -> Elicited[M]: ...
    @overload
    async def elicit(
        self, message: str, schema: dict[str, Any], *, key: str | None = None
    ) -> Elicited[dict[str, Any]]: ...
    @overload
    async def elicit(self, message: str, *, response_type: type[M], key: str | None = None) -> Elicited[M]: ...
    def elicit(self, message: str, schema: Any = None, *, response_type: Any = None, key: str | None = None) -> Any:
        """Ask the user to fill in a form (client/elicitation); see the class for what 2026-07-28 does. Never for secrets.

        `schema` is a pydantic model, or an object schema with primitive fields; `response_type` is the same by another name. The
        answer's `data` is an instance of the model, or a dict. `key` names the question on 2026-07-28.

        Raises ClientCallError when there is no valid answer: ClientRefused, ClientTimeout, and NoBackChannel where the client takes no
        stream. A client that cannot show forms is MissingClientCapability on 2026-07-28, NoBackChannel in a session. Raises
        TypeError for a form that is not flat.
        """
        if (schema is None) == (response_type is None):
            raise TypeError("elicit takes a message and one schema: write ctx.elicit(message, Model)")
        return self._elicit(message, response_type if schema is None else schema, key)

    @in_loop
    async def _elicit(self, message: str, schema: Any, key: str | None) -> Elicited[Any]:
        form = Form(schema)
        declared = self.client_capabilities.get("elicitation")
        # A client that names no mode means form, the only one there was before 2025-11-25.
        require(self._call, "elicitation", "form" if isinstance(declared, dict) and "url" in declared else None)
        params = {"message": message, "requestedSchema": form.for_version(self.protocol_version)}
        return form.read(await ask(self._call, "elicitation/create", params, key))

    @in_loop
    async def elicit_url(self, message: str, url: str, *, key: str | None = None) -> Elicited[None]:
        """Ask the user to open a URL, for what must not pass through the client (client/elicitation, url mode; 2025-11-25).

        The answer says only whether the user agreed. The page must check that the person who opens it is the one who asked.
        `key` and errors are those of `elicit`.
        """
        require(self._call, "elicitation", "url")
        params = {"mode": "url", "message": message, "url": url}
        if not self._call.modern:
            params["elicitationId"] = secrets.token_urlsafe(16)
        return Elicited(read_action(await ask(self._call, "elicitation/create", params, key)))

    @in_loop
    async def sample(
        self,
        messages: str | Sequence[SamplingMessage],
        *,
        max_tokens: int | None = None,
        system_prompt: str | None = None,
        temperature: float | None = None,
        stop_sequences: Sequence[str] | None = None,
        model_preferences: dict[str, Any] | None = None,
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> CreateMessageResult:
        """Have the client's model write a message (client/sampling).

        `messages` is the user's text, or SamplingMessages. `max_tokens` is 512 unless given. `temperature`, `stop_sequences`,
        `model_preferences` (ModelPreferences) and `metadata` are passed on as they are. `tools` (Tool objects) and `tool_choice`
        need the client's `sampling.tools` (2025-11-25). `key` and errors are those of `elicit`.
        """
        require(self._call, "sampling", "tools" if tools or tool_choice else None)
        params = {
            "messages": as_messages(messages),
            "maxTokens": DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
            "systemPrompt": system_prompt,
            "temperature": temperature,
            "stopSequences": stop_sequences,
            "modelPreferences": model_preferences,
            "tools": None if tools is None else to_wire(list(tools)),
            "toolChoice": tool_choice,
            "metadata": metadata,
        }
        present = {name: value for name, value in params.items() if value is not None}
        result = await ask(self._call, "sampling/createMessage", present, key)
        return read_answer(result, CreateMessageResult, "sampling/createMessage")

    @in_loop
    async def list_roots(self, *, key: str | None = None) -> list[Root]:
        """Ask for the client's roots (client/roots). `key` and errors are those of `elicit`."""
        require(self._call, "roots")
        result = await ask(self._call, "roots/list", {}, key)
        return read_answer(result.get("roots"), list[Root], "roots/list")

    @in_loop
    async def background(self) -> None:
        """Become a task now, if the tool has `task=` and the client takes tasks (SEP-2663): go on without the request.

        The client is told the id of the task, `ctx.task_id`, and asks for its state. Where there can be no task, an ordinary
        call goes on after this as before.
        """
        if self._call.background is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._call.background.become_task()

    @in_loop
    async def read_resource(self, uri: str) -> list[dict[str, Any]]:
        """The contents of one of this server's resources, as `resources/read` gives them; raises ResourceNotFoundError."""
        result = await read(self._call, uri)
        found: list[dict[str, Any]] = result["contents"]
        return found

    @in_loop
    async def notify_extension(self, identifier: str, method: str, params: dict[str, Any] | None = None) -> None:
        """Send a notification of an extension of MCP on this request's stream; nothing to a client that did not declare it.

        It may be dropped where the client reads too slowly. Raises ValueError for a name that MCP has, or without `notifications/`,
        and SlowReader as `report_progress` does.
        """
        if method in NOTIFICATIONS or not method.startswith("notifications/"):
            raise ValueError(
                f"a notification of an extension is called as in notifications/echo/heard, not {method!r:.80}"
            )
        if self.client_supports_extension(identifier):
            self._call.emit(encode_notification(method, params or {}), Kind.LATEST)
        await self._call.outbox.wait_for_reader()

    @in_loop
    async def notify_tools_changed(self) -> None:
        """Notify every client that listens that `tools/list` changed, on all nodes; adding and removing tools does it, too."""
        await self._publish(ListChanged("tools"))

    @in_loop
    async def notify_resources_changed(self) -> None:
        """Tell clients that the list of resources has changed."""
        await self._publish(ListChanged("resources"))

    @in_loop
    async def notify_prompts_changed(self) -> None:
        """Tell clients that the list of prompts has changed."""
        await self._publish(ListChanged("prompts"))

    @in_loop
    async def notify_resource_updated(self, uri: str) -> None:
        """Notify every client that subscribed to `uri` that its contents changed, on all nodes (server/resources)."""
        await self._publish(ResourceUpdated(uri))

    @in_loop
    async def close_stream(self) -> None:
        """End the connection of this call's stream; the client resumes it by `Last-Event-ID` (2025-11-25, SEP-1699).

        For calls that take long: no connection stays open for them. Does nothing where a stream cannot be resumed.
        """
        if self.protocol_version == V2025_11_25:
            self._call.outbox.close_stream()
        await trio.lowlevel.checkpoint()

    async def _publish(self, change: ListChanged | ResourceUpdated) -> None:
        self._call.service.bus.publish(change)
        await trio.lowlevel.checkpoint()


_ELSEWHERE = {
    "client_id": "write ctx.client_info for what the client says of itself, ctx.principal for who was authenticated",
    "get_state": "keep it in a variable, or in what the lifespan yields",
    "set_state": "keep it in a variable, or in what the lifespan yields",
    "create_message": "write ctx.sample(…)",
    "fastmcp": "use the server by its own name",
    "list_resources": "use the server by its own name",
    "list_prompts": "use the server by its own name",
    "send_notification": "write ctx.notify_resource_updated(uri) or ctx.notify_tools_changed()",
    "send_tool_list_changed": "write ctx.notify_tools_changed()",
    "send_resource_list_changed": "write ctx.notify_resources_changed()",
    "send_prompt_list_changed": "write ctx.notify_prompts_changed()",
}
"""What other packages' contexts have, and what stands for it here."""
