-- SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
-- Prints what wrk has counted as one line of JSON: its own text rounds, and has units to parse.

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "rate": %.2f, "p50_us": %d, "p99_us": %d, "errors": '
            .. '{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
        summary.requests, summary.requests / (summary.duration / 1e6), latency:percentile(50),
        latency:percentile(99), errors.connect, errors.read, errors.write, errors.status,
        errors.timeout))
end
