// socket.io's adapter: two servers at one peer, rooms over both, who is where; and a third server at another peer, whose address
// comes second: what is told and ended there is so here, too.
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { io } from 'socket.io-client'
import { createAdapter } from '@socket.io/redis-adapter'
import Redis from 'ioredis'
import { assert, eventually, host, port, prefix, run } from './job.mjs'

await run(async () => {
  const start = async (host, port) => {
    const http = createServer()
    const server = new Server(http)
    const pub = new Redis({ host, port })
    server.adapter(createAdapter(pub, pub.duplicate(), { key: prefix }))
    server.on('connection', (socket) => socket.on('join', (room, done) => { socket.join(room); done() }))
    await new Promise((r) => http.listen(0, '127.0.0.1', r))
    return [server, http.address().port]
  }
  const [one, portOne] = await start(host, port)
  const [two, portTwo] = await start(host, port)
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

  const [far, portFar] = await start(...process.argv[3].split(':'))
  const c = await connect(portFar)
  for (const [from, who] of [[far, [a, b]], [one, [c]]]) {
    const told = new Map(who.map((socket) => [socket, false]))
    for (const socket of who) socket.once('across', () => told.set(socket, true))
    await eventually('a room over two peers hears', () => {
      from.to('room').emit('across') // a message is told once at most, and not before the peers know who listens
      return [...told.values()].every(Boolean)
    })
  }
  far.in('room').disconnectSockets()
  await eventually('all are gone', () => !a.connected && !b.connected && !c.connected)
})
