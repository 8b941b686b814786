// BullMQ: plain, prioritized, delayed, repeated, rate-limited jobs, parents and children, retries, stalled workers.
import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq'
import { assert, eventually, host, port, prefix, run } from './job.mjs'

const connection = { host, port, maxRetriesPerRequest: null }
const options = { connection, prefix: prefix + 'bull' }

await run(async () => {
  const queue = new Queue('plain', options)
  const events = new QueueEvents('plain', options)
  await events.waitUntilReady()
  const done = []
  const worker = new Worker('plain', async (job) => {
    if (job.name === 'flaky' && job.attemptsMade < 1) throw new Error('at first')
    done.push(job.data.n)
    return job.data.n * 2
  }, { ...options, concurrency: 1 })
  const job = await queue.add('one', { n: 21 })
  assert.equal(await job.waitUntilFinished(events, 20000), 42)
  const flaky = await queue.add('flaky', { n: 4 }, { attempts: 3, backoff: { type: 'fixed', delay: 50 } })
  assert.equal(await flaky.waitUntilFinished(events, 20000), 8)
  const began = Date.now()
  const delayed = await queue.add('later', { n: 5 }, { delay: 400 })
  assert.equal(await delayed.waitUntilFinished(events, 20000), 10)
  assert.ok(Date.now() - began >= 390)
  await queue.upsertJobScheduler('each', { every: 200, limit: 3 }, { data: { n: 7 } })
  await eventually('the repeated job ran', () => done.filter((n) => n === 7).length >= 2)
  await queue.removeJobScheduler('each')

  await worker.pause()
  done.length = 0
  for (const n of [3, 1, 2]) await queue.add('ranked', { n }, { priority: n })
  worker.resume()
  await eventually('all ran', () => done.length === 3)
  assert.deepEqual(done, [1, 2, 3])
  await worker.close()

  const limited = new Queue('limited', options)
  let ran = 0
  const slow = new Worker('limited', async () => { ran++ }, { ...options, limiter: { max: 2, duration: 500 } })
  await slow.waitUntilReady()
  const from = Date.now()
  await limited.addBulk(Array.from({ length: 5 }, (_, i) => ({ name: 'x', data: { i } })))
  await eventually('the limited ran', () => ran === 5)
  assert.ok(Date.now() - from >= 900, 'the limit held')
  await slow.close()

  const flow = new FlowProducer(options)
  const child = new Worker('children', async (j) => j.data.n, options)
  const parent = new Worker('parents', async (j) => Object.values(await j.getChildrenValues()).reduce((a, b) => a + b, 0), options)
  const parentEvents = new QueueEvents('parents', options)
  await parentEvents.waitUntilReady()
  const tree = await flow.add({ name: 'p', queueName: 'parents', children: [1, 2, 3].map((n) => ({ name: 'c', queueName: 'children', data: { n } })) })
  assert.equal(await tree.job.waitUntilFinished(parentEvents, 20000), 6)
  await child.close()
  await parent.close()

  const stalls = new Queue('stalls', options)
  await stalls.add('x', {})
  const dead = new Worker('stalls', () => new Promise(() => {}), { ...options, lockDuration: 300, skipLockRenewal: true, skipStalledCheck: true })
  await eventually('a worker has it', async () => (await stalls.getActiveCount()) === 1)
  let saved = false
  const rescuer = new Worker('stalls', async () => { saved = true }, { ...options, stalledInterval: 300, lockDuration: 1000 })
  await eventually('another took it over', () => saved)
  await rescuer.close()
  await dead.close(true)
  assert.deepEqual(await queue.getJobCounts('active', 'wait', 'prioritized', 'failed'), { active: 0, wait: 0, prioritized: 0, failed: 0 })
})
