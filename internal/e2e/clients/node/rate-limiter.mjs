// rate-limiter-flexible: so many in a second, and again afterwards; a burst; a block.
import Redis from 'ioredis'
import { RateLimiterRedis } from 'rate-limiter-flexible'
import { assert, host, port, prefix, run } from './job.mjs'

await run(async () => {
  const storeClient = new Redis({ host, port })
  const limiter = new RateLimiterRedis({ storeClient, keyPrefix: prefix, points: 5, duration: 1 })
  const all = await Promise.allSettled(Array.from({ length: 12 }, () => limiter.consume('user')))
  assert.equal(all.filter((r) => r.status === 'fulfilled').length, 5)
  const refused = all.find((r) => r.status === 'rejected').reason
  assert.ok(refused.msBeforeNext > 0 && refused.msBeforeNext <= 1000)
  await new Promise((r) => setTimeout(r, refused.msBeforeNext + 20))
  assert.equal((await limiter.consume('user')).remainingPoints, 4)
  const strict = new RateLimiterRedis({ storeClient, keyPrefix: prefix + 'b', points: 1, duration: 5, blockDuration: 60 })
  await strict.consume('user')
  await assert.rejects(strict.consume('user'), (r) => r.msBeforeNext > 50000)
  await strict.delete('user')
  await strict.consume('user')
})
