// What clients keep, each number by its own interface: ADDRESS NAME add CLIENT adds those that it reads, a number a line, and
// goes on when a connection is lost; ADDRESS NAME work CLIENT HOW-MANY waits until so many are kept. It prints each number.
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { eventually, host, port, run } from './job.mjs'

const [name, what, client, howMany] = process.argv.slice(3)

async function ioredis() {
  const { default: Redis } = await import('ioredis')
  const redis = new Redis({ host, port, maxRetriesPerRequest: null, retryStrategy: () => 20 })
  redis.on('error', () => {})
  return redis
}

async function nodeRedis() {
  const { createClient } = await import('redis')
  const redis = createClient({ url: `redis://${host}:${port}`, socket: { reconnectStrategy: 20 } })
  redis.on('error', () => {})
  await redis.connect()
  return redis
}

// clients hold how each puts a number, and says whether it is there.
const clients = {
  ioredis: async () => {
    const redis = await ioredis()
    return [(n) => redis.hset(name, n, n), (n) => redis.hexists(name, n)]
  },
  'node-redis': async () => {
    const redis = await nodeRedis()
    return [(n) => redis.multi().sAdd(name, n).incr(name + ':tries').exec(), (n) => redis.sIsMember(name, n)]
  },
  'connect-redis': async () => {
    const { RedisStore } = await import('connect-redis')
    const store = new RedisStore({ client: await nodeRedis(), prefix: name, ttl: 600 })
    return [(n) => store.set(n, { cookie: {}, user: n }), async (n) => (await store.get(n))?.user === n]
  },
  'rate-limiter-flexible': async () => {
    const { RateLimiterRedis } = await import('rate-limiter-flexible')
    const limiter = new RateLimiterRedis({ storeClient: await ioredis(), keyPrefix: name, points: 1000, duration: 600 })
    return [(n) => limiter.consume(n), async (n) => (await limiter.get(n))?.consumedPoints >= 1]
  },
  // A message is heard or it is not: what is not is told again, and nothing is kept.
  'socket.io': async () => {
    const [{ Server }, { io }, { createAdapter }] =
      await Promise.all(['socket.io', 'socket.io-client', '@socket.io/redis-adapter'].map((name) => import(name)))
    const server = async () => {
      const http = createServer()
      const server = new Server(http)
      server.adapter(createAdapter(await ioredis(), await ioredis(), { key: name }))
      server.on('connection', (socket) => socket.join('room'))
      await new Promise((r) => http.listen(0, '127.0.0.1', r))
      return [server, http.address().port]
    }
    const [[, hears], [tells]] = [await server(), await server()]
    const heard = new Set()
    const socket = io(`http://127.0.0.1:${hears}`)
    socket.on('news', (n) => heard.add(n))
    await new Promise((r) => socket.on('connect', r))
    return [async (n) => {
      for (let tries = 0; !heard.has(n); tries++) {
        if (tries % 20 === 0) tells.to('room').emit('news', n)
        await new Promise((r) => setTimeout(r, 5))
      }
    }]
  }
}

await run(async () => {
  const [put, has] = await clients[client]()
  if (what === 'work') {
    for (let n = 0; n < Number(howMany); n++) {
      await eventually(`${client} has ${n}`, () => has(String(n)))
      console.log(n)
    }
    return
  }
  for await (const n of createInterface({ input: process.stdin })) {
    await eventually(`${client} puts ${n}`, () => Promise.resolve(put(n)).then(() => true, () => false))
    console.log(n)
  }
})
