-- wrk: one tools/call per request, each with its own JSON-RPC id, and of another length than the one before, as calls of a client are.
-- Environment: TOOL, SESSION (legacy: the session's id), VERSION, PROGRESS=1 (ask for progress), TOKENS (a file with access tokens,
-- one a line: each request has the next of them), EQUAL=1 (all are of one length: their heads are equal, byte for byte).
local tool, session, version = os.getenv("TOOL"), os.getenv("SESSION"), os.getenv("VERSION")

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json, text/event-stream"
wrk.headers["MCP-Protocol-Version"] = version

local meta = {}
if session then
  wrk.headers["Mcp-Session-Id"] = session
else
  wrk.headers["Mcp-Method"] = "tools/call"
  wrk.headers["Mcp-Name"] = tool
  table.insert(meta, '"io.modelcontextprotocol/protocolVersion":"' .. version .. '"')
  table.insert(meta, '"io.modelcontextprotocol/clientCapabilities":{}')
  table.insert(meta, '"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"}')
end

local tokens = {}
if os.getenv("TOKENS") then
  for token in io.lines(os.getenv("TOKENS")) do table.insert(tokens, "Bearer " .. token) end
end

local equal = os.getenv("EQUAL") == "1"

local last = 1000
function request()
  last = last + 1
  local extra = {}
  for i, entry in ipairs(meta) do extra[i] = entry end
  if os.getenv("PROGRESS") == "1" then table.insert(extra, '"progressToken":' .. last) end
  if #tokens > 0 then wrk.headers["Authorization"] = tokens[last % #tokens + 1] end
  return wrk.format(nil, nil, nil, '{"jsonrpc":"2.0","id":' .. last .. ',"method":"tools/call","params":{"name":"' .. tool
    .. '","arguments":{"a":2,"b":3},"_meta":{' .. table.concat(extra, ",") .. '}}}' .. string.rep(" ", equal and 0 or last % 7))
end
