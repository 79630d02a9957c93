-- Lease, most jobs, most moved, most bytes, whether the caller is going to wait.
local lease, max, most, bytes, waits =
    tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'

-- What is due becomes ready, in the place that it has.
local function ripen(set)
    local due = redis.call('ZRANGE', set, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
    if #due == 0 then
        return
    end
    local scored = {}
    for i, member in ipairs(due) do
        scored[2 * i - 1] = 0
        scored[2 * i] = member
    end
    redis.call('ZADD', ready, unpack(scored))
    redis.call('ZREM', set, unpack(due))
end
ripen(scheduled)
ripen(leases)

-- All is read before anything of the claim is written: where the slot is on its way to another
-- node, a hash that has gone ahead ends the script, and so does a set that is empty by now.
local out, gone, leased, taken = {}, {}, {}, {}
local first = max > 0 and redis.call('ZRANGE', ready, 0, max - 1) or {}
for i, member in ipairs(first) do
    local id = string.sub(member, 36)
    local key = jobs .. id
    local job = redis.call('HMGET', key, 'kind', 'payload', 'headers', 'attempts', 'returns',
        'checkpoint', 'claim')
    gone[i] = member
    -- A hash that somebody has deleted is a job that is no more.
    if job[1] and job[2] then
        local claim, attempts = (job[7] or 0) + 1, (job[4] or 0) + 1
        leased[#leased + 1] = now + lease
        leased[#leased + 1] = member
        taken[#taken + 1] = { key, claim, attempts }
        out[#out + 1] = { id, claim, job[1], job[2], job[3] or '', attempts,
            tonumber(job[5] or 0), job[6] }
        bytes = bytes - #job[2] - (job[6] and #job[6] or 0)
    end
    if bytes <= 0 then
        break
    end
end
local left, next = redis.call('ZCARD', ready) - #gone, -1
for _, due in ipairs({ head(scheduled) or false, head(leases) or false,
    #out > 0 and now + lease }) do
    if due and (next < 0 or due - now < next) then
        next = math.max(0, due - now)
    end
end

-- Whatever ends the script in between, no job is in neither set, and none is leased that a former
-- claim could still settle.
for _, job in ipairs(taken) do
    redis.call('HSET', job[1], 'owner', owner, 'claim', job[2], 'attempts', job[3])
end
if #out > 0 then
    redis.call('ZADD', leases, unpack(leased))
    redis.call('HINCRBY', counters, 'attempts', #out)
end
if #gone > 0 then
    redis.call('ZREM', ready, unpack(gone))
end

-- The marker is up while there is something to claim. Who leaves with jobs hands on the watch
-- over what is due soon; who is going to wait has it, and takes the marker down.
if next == 0 or left > 0 then
    rouse()
elseif #out > 0 then
    if next > 0 and next < look then
        rouse()
    end
elseif waits then
    redis.call('DEL', wake)
end
return { next, out }
