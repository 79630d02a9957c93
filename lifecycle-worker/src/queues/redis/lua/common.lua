-- Stands before every script. Time is the server's own; all keys of a queue are in one slot.
local ready, scheduled, leases, dead, counters, wake =
    KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local jobs, owner, look = ARGV[1], ARGV[2], tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- When the first of a set is due; nil if it is empty.
local function head(set)
    return tonumber(redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2])
end

-- Wakes one claim that waits. There is one marker at most.
local function rouse()
    if redis.call('EXISTS', wake) == 0 then
        redis.call('LPUSH', wake, '1')
    end
end

-- Puts a job where it waits. Who waits looks again by itself within `look`: only what is due
-- sooner than that, and than all others, has to be told.
local function put(member, due)
    if due > now then
        local first = head(scheduled)
        redis.call('ZADD', scheduled, due, member)
        if due < now + look and (not first or due < first) then
            rouse()
        end
    else
        redis.call('ZADD', ready, 0, member)
        rouse()
    end
end

-- What the arguments from there on say of claims, of so many each, id and claim first: for each
-- whether it is the newest of its job, and where that is said, the job's key and its member.
--
-- All is read before anything is written, and a job is added to a set before it is taken out of
-- another: where the slot is on its way to another node, a hash that has gone ahead ends the
-- script, and so does a set of which it has itself taken the last.
local function held(from, size)
    local flags, mine, seen = {}, {}, {}
    for i = from, #ARGV, size do
        local id = ARGV[i]
        local job = redis.call('HMGET', jobs .. id, 'owner', 'claim', 'member')
        local newest = job[1] == owner and job[2] == ARGV[i + 1]
        if newest and not seen[id] then
            seen[id] = true
            mine[#mine + 1] = { at = i, key = jobs .. id, member = job[3] }
        end
        flags[#flags + 1] = newest and 1 or 0
    end
    return flags, mine
end

-- Takes jobs out of where they were, but for a place that is theirs again. A lease that has ended
-- may have been put back, and nobody has claimed the job since.
local function take_out(mine)
    local leased, gone = {}, {}
    for i, job in ipairs(mine) do
        leased[i] = job.member
        if job.place ~= job.member then
            gone[#gone + 1] = job.member
        end
    end
    if #leased > 0 then
        redis.call('ZREM', leases, unpack(leased))
    end
    if #gone > 0 then
        redis.call('ZREM', ready, unpack(gone))
    end
end

-- The same place with another time: 5 digits of rank, 14 of time, 16 of push order, the id.
local function moved(member, due)
    return string.sub(member, 1, 5) .. string.format('%014d', due) .. string.sub(member, 20)
end
