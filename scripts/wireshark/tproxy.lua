-- SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
--
-- Decodes for Wireshark and tshark what tproxy-relay writes into PROXY headers of version 2. It
-- adds to Wireshark's own dissector of these headers, proxy, whose TLVs it reads.
--
-- tshark -o tcp.try_heuristic_first:TRUE -X lua_script:tproxy.lua -r FILE -Y tproxy -T fields \
--     -e tproxy.id -e tproxy.command
--
-- Without the option, proxy does not see the headers at ports that belong to another protocol.
-- To have it always, put it into the folder "Personal Lua Plugins" of `tshark -G folders`.
-- tproxy-upstreams(5), PROXY HEADERS, describes the bytes.

local tproxy = Proto("tproxy", "tproxy connection")

local fields = {
    id = ProtoField.string("tproxy.id", "Connection", base.ASCII,
        "Id of the connection, as tproxyctl and the log print it (UNIQUE_ID)"),
    name = ProtoField.string("tproxy.name", "Name", base.UNICODE,
        "Name of the destination that the client told (AUTHORITY)"),
    netns = ProtoField.string("tproxy.netns", "Network namespace", base.ASCII,
        "Cookie of the client's network namespace (NETNS)"),
    version = ProtoField.uint8("tproxy.version", "Version"),
    pid = ProtoField.uint32("tproxy.pid", "Process"),
    uid = ProtoField.uint32("tproxy.uid", "User"),
    gid = ProtoField.uint32("tproxy.gid", "Group"),
    command = ProtoField.string("tproxy.command", "Command"),
    cgroup_id = ProtoField.uint64("tproxy.cgroup_id", "Cgroup id"),
    cgroup = ProtoField.string("tproxy.cgroup", "Cgroup"),
    unknown = ProtoField.bytes("tproxy.unknown", "Unknown field"),
}
tproxy.fields = fields

local malformed = ProtoExpert.new("tproxy.malformed", "Malformed TLV of tproxy",
    expert.group.MALFORMED, expert.severity.ERROR)
tproxy.experts = { malformed }

local tlv_type = Field.new("proxy.v2.tlv.type")
local tlv_value = Field.new("proxy.v2.tlv.value")

local TLV_AUTHORITY, TLV_UNIQUE_ID, TLV_NETNS, TLV_TPROXY = 0x02, 0x05, 0x30, 0xe4
local MAGIC, VERSION = "tprx", 1
local HEADER_LEN = 5 -- of the magic and the version

-- The fields of version 1: type -> field, and the length of a number.
local numbers = {
    [1] = { fields.pid, 4 },
    [2] = { fields.uid, 4 },
    [3] = { fields.gid, 4 },
    [5] = { fields.cgroup_id, 8 },
}
local texts = { [4] = fields.command, [6] = fields.cgroup }

local function add_field(tree, kind, value)
    local number = numbers[kind]
    if number and value:len() == number[2] then
        tree:add(number[1], value)
    elseif number then
        tree:add_proto_expert_info(malformed)
    elseif texts[kind] then
        tree:add(texts[kind], value)
    else
        tree:add(fields.unknown, value)
    end
end

local function add_fields(tree, range)
    local offset = HEADER_LEN
    while offset < range:len() do
        if range:len() - offset < 3 or range:len() - offset - 3 < range(offset + 1, 2):uint() then
            tree:add_proto_expert_info(malformed)
            return
        end
        local length = range(offset + 1, 2):uint()
        -- An empty range cannot be made.
        if length > 0 then
            add_field(tree, range(offset, 1):uint(), range(offset + 3, length))
        end
        offset = offset + 3 + length
    end
end

local function add_tlv(tree, kind, range)
    if kind == TLV_UNIQUE_ID then
        tree:add(fields.id, range)
    elseif kind == TLV_AUTHORITY then
        tree:add(fields.name, range)
    elseif kind == TLV_NETNS then
        tree:add(fields.netns, range)
    elseif range:len() < HEADER_LEN or range(0, 4):string() ~= MAGIC then
        return -- another application's
    else
        tree:add(fields.version, range(4, 1))
        if range(4, 1):uint() == VERSION then
            add_fields(tree, range)
        end
    end
end

-- Runs after all other dissectors, on each packet.
function tproxy.dissector(buffer, pinfo, root)
    local types, values = { tlv_type() }, { tlv_value() }
    local tree
    local value = 1
    for _, kind in ipairs(types) do
        local number = kind.value
        -- A TLV without bytes has no value.
        local range = values[value] and values[value].range
        if range and range:offset() == kind.range:offset() + 3 then
            value = value + 1
            if number == TLV_UNIQUE_ID or number == TLV_AUTHORITY or number == TLV_NETNS or
                number == TLV_TPROXY then
                tree = tree or root:add(tproxy)
                add_tlv(tree, number, range)
            end
        end
    end
end

register_postdissector(tproxy)
