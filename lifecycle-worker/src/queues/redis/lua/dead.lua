-- How many to pass over, most jobs, most bytes. Answers how many it has looked at, and the jobs.
local from, bytes = tonumber(ARGV[4]), tonumber(ARGV[6])
local members = redis.call('ZRANGE', dead, from, from + tonumber(ARGV[5]) - 1, 'REV')
local seen, out = 0, {}
for _, member in ipairs(members) do
    local id = string.sub(member, 36)
    local job = redis.call('HMGET', jobs .. id, 'kind', 'payload', 'attempts', 'error')
    seen = seen + 1
    if job[1] and job[2] then
        out[#out + 1] = { id, job[1], job[2], tonumber(job[3] or 0), job[4] or '' }
        bytes = bytes - #job[2]
    end
    if bytes <= 0 then
        break
    end
end
return { seen, out }
