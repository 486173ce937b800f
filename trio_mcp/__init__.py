"""MCP servers on Trio: one nursery per session, correct behind any load balancer."""

from trio_mcp.auth.principal import ANONYMOUS as ANONYMOUS
from trio_mcp.auth.principal import Principal as Principal
from trio_mcp.dispatch.context import Context as Context
from trio_mcp.dispatch.elicitation import Elicited as Elicited
from trio_mcp.dispatch.service import Options as Options
from trio_mcp.protocol.errors import (
    ClientCallError as ClientCallError,
)
from trio_mcp.protocol.errors import (
    McpError as McpError,
)
from trio_mcp.protocol.errors import (
    MissingClientCapability as MissingClientCapability,
)
from trio_mcp.protocol.errors import (
    PromptError as PromptError,
)
from trio_mcp.protocol.errors import (
    ResourceError as ResourceError,
)
from trio_mcp.protocol.errors import (
    ResourceNotFoundError as ResourceNotFoundError,
)
from trio_mcp.protocol.errors import (
    ToolError as ToolError,
)
from trio_mcp.server import MCPServer as MCPServer
from trio_mcp.sessions.session import Session as Session
