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

-- The job's member if the claim is its newest, and takes it out of where it is.
local function take_out(id, number)
    local job = redis.call('HMGET', jobs .. id, 'owner', 'claim', 'member')
    if job[1] ~= owner or job[2] ~= number then
        return nil
    end
    -- A lease that has ended may have been put back, and nobody has claimed the job since.
    if redis.call('ZREM', leases, job[3]) == 0 then
        redis.call('ZREM', ready, job[3])
    end
    return job[3]
end

-- The same place with another time: 5 digits of rank, 14 of time, 16 of push order, the id.
local function moved(member, due)
    return string.sub(member, 1, 5) .. string.format('%014d', due) .. string.sub(member, 20)
end
