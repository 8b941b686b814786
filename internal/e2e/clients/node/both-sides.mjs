// Sessions of connect-redis and points of rate-limiter-flexible, at two peers: two addresses, and what to do: "apart" while the
// two are cut from each other, "together" once all that was written is at both.
import { createClient } from 'redis'
import Redis from 'ioredis'
import { RedisStore } from 'connect-redis'
import { RateLimiterRedis } from 'rate-limiter-flexible'
import { assert, eventually, run } from './job.mjs'

const [first, second, what] = process.argv.slice(2)

await run(async () => {
  const stores = []
  const limiters = []
  for (const address of [first, second]) {
    const client = createClient({ url: `redis://${address}` })
    await client.connect()
    stores.push(new RedisStore({ client, prefix: 'session:', ttl: 60 }))
    const [host, port] = address.split(':')
    limiters.push(new RateLimiterRedis({ storeClient: new Redis({ host, port }), keyPrefix: 'limit', points: 5, duration: 60 }))
  }
  const session = (user) => ({ cookie: {}, user })
  if (what === 'apart') {
    await stores[0].set('in-oslo', session('ada'))
    await stores[1].set('in-lima', session('bob'))
    for (const limiter of limiters) { // each side gives what there is, not knowing of the other
      for (let i = 0; i < 4; i++) await limiter.consume('user')
      assert.equal((await limiter.get('user')).consumedPoints, 4)
    }
    assert.equal(await stores[1].get('in-oslo'), null)
    return
  }
  for (const store of stores) {
    await eventually('both sessions are there', async () => (await store.length()) === 2)
    assert.equal((await store.get('in-oslo')).user, 'ada')
    assert.equal((await store.get('in-lima')).user, 'bob')
  }
  for (const limiter of limiters) {
    await eventually('all points are counted', async () => (await limiter.get('user'))?.consumedPoints === 8)
  }
  await assert.rejects(limiters[0].consume('user'), (r) => r.msBeforeNext > 0)
  await stores[1].destroy('in-oslo')
  await eventually('the end of a session is told', async () => (await stores[0].get('in-oslo')) === null)
})
