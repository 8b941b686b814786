// connect-redis with express-session: a session over several requests, and its end.
import express from 'express'
import session from 'express-session'
import { RedisStore } from 'connect-redis'
import { createClient } from 'redis'
import { assert, host, port, prefix, run } from './job.mjs'

await run(async () => {
  const client = createClient({ url: `redis://${host}:${port}` })
  await client.connect()
  const app = express()
  const store = new RedisStore({ client, prefix, ttl: 60 })
  app.use(session({ store, secret: 's', resave: false, saveUninitialized: false }))
  app.get('/', (req, res) => { req.session.views = (req.session.views || 0) + 1; res.end(String(req.session.views)) })
  app.get('/end', (req, res) => req.session.destroy(() => res.end('ended')))
  const server = await new Promise((r) => { const s = app.listen(0, '127.0.0.1', () => r(s)) })
  let cookie
  const get = async (path) => {
    const response = await fetch(`http://127.0.0.1:${server.address().port}${path}`, { headers: cookie ? { cookie } : {} })
    cookie = response.headers.get('set-cookie')?.split(';')[0] ?? cookie
    return response.text()
  }
  assert.equal(await get('/'), '1')
  assert.equal(await get('/'), '2')
  assert.equal(await store.length(), 1)
  const [key] = await client.keys(prefix + '*')
  assert.ok((await client.ttl(key)) > 50)
  await get('/end')
  assert.equal(await store.length(), 0)
  assert.equal(await get('/'), '1')
})
