// node-redis: RESP3, transactions, iterators, functions of the client, client-side caching, messages.
import { createClient } from 'redis'
import { assert, host, port, prefix, run } from './job.mjs'

await run(async () => {
  const client = createClient({ url: `redis://${host}:${port}`, RESP: 3, clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: 'LRU' } })
  await client.connect()
  const k = (name) => prefix + name
  await client.set(k('a'), 'one')
  assert.equal(await client.get(k('a')), 'one')
  assert.equal(await client.get(k('a')), 'one')
  const other = client.duplicate({ clientSideCache: undefined })
  await other.connect()
  await other.set(k('a'), 'two')
  let value
  for (let i = 0; i < 500 && value !== 'two'; i++) { value = await client.get(k('a')); await new Promise((r) => setTimeout(r, 10)) }
  assert.equal(value, 'two', 'what was cached is invalidated')
  assert.deepEqual(await client.multi().hSet(k('h'), { f: '1', g: '2' }).hGetAll(k('h')).exec().then((r) => [r[0], { ...r[1] }]), [2, { f: '1', g: '2' }])
  await client.zAdd(k('z'), [{ score: 1.5, value: 'a' }, { score: 2, value: 'b' }])
  assert.deepEqual(await client.zRangeWithScores(k('z'), 0, -1), [{ value: 'a', score: 1.5 }, { value: 'b', score: 2 }])
  assert.equal(await client.zIncrBy(k('z'), 2, 'a'), 3.5)
  await client.sAdd(k('s'), Array.from({ length: 50 }, (_, i) => 'm' + i))
  let n = 0
  for await (const members of client.sScanIterator(k('s'))) n += members.length
  assert.equal(n, 50)
  const got = new Promise((r) => other.subscribe(k('news'), r))
  while (!(await client.publish(k('news'), 'hello'))) await new Promise((r) => setTimeout(r, 10))
  assert.equal(await got, 'hello')
  await client.xGroupCreate(k('x'), 'g', '0', { MKSTREAM: true })
  const id = await client.xAdd(k('x'), '*', { f: 'v' })
  const read = await client.xReadGroup('g', 'c', { key: k('x'), id: '>' })
  assert.equal(JSON.stringify(read).includes(id), true)
  assert.equal(await client.xAck(k('x'), 'g', id), 1)
  assert.equal(await client.eval('return {KEYS[1], ARGV[1]}', { keys: ['k'], arguments: ['v'] }).then(String), 'k,v')
})
