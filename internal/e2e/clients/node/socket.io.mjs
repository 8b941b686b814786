// socket.io's adapter: two servers, rooms over both, who is where.
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { io } from 'socket.io-client'
import { createAdapter } from '@socket.io/redis-adapter'
import Redis from 'ioredis'
import { assert, eventually, host, port, prefix, run } from './job.mjs'

await run(async () => {
  const start = async () => {
    const http = createServer()
    const server = new Server(http)
    const pub = new Redis({ host, port })
    server.adapter(createAdapter(pub, pub.duplicate(), { key: prefix }))
    server.on('connection', (socket) => socket.on('join', (room, done) => { socket.join(room); done() }))
    await new Promise((r) => http.listen(0, '127.0.0.1', r))
    return [server, http.address().port]
  }
  const [one, portOne] = await start()
  const [two, portTwo] = await start()
  const connect = async (p) => {
    const socket = io(`http://127.0.0.1:${p}`)
    await new Promise((r) => socket.on('connect', r))
    await new Promise((r) => socket.emit('join', 'room', r))
    return socket
  }
  const a = await connect(portOne)
  const b = await connect(portTwo)
  await eventually('each server knows both', async () => (await one.in('room').fetchSockets()).length === 2)
  const heard = Promise.all([a, b].map((s) => new Promise((r) => s.once('news', r))))
  two.to('room').emit('news', { n: 1 })
  assert.deepEqual(await heard, [{ n: 1 }, { n: 1 }])
  two.on('ask', (answer) => answer('two'))
  assert.deepEqual(await one.serverSideEmitWithAck('ask'), ['two'])
  one.in('room').disconnectSockets()
  await eventually('all are gone', () => !a.connected && !b.connected)
})
