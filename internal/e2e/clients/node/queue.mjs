// BullMQ as a queue alone: ADDRESS QUEUE add KIND, the numbers of whose jobs it reads, or ADDRESS QUEUE work KIND HOW-MANY. It
// prints what it has done, a number a line, each as often as it was done.
import { createInterface } from 'node:readline'
import { Queue, Worker } from 'bullmq'
import { host, port, run } from './job.mjs'

const [queue, what, kind, howMany] = process.argv.slice(3)
const options = { connection: { host, port, maxRetriesPerRequest: null, retryStrategy: () => 50 } }

// kinds hold the options of a job.
const kinds = {
  plain: () => ({}),
  prioritized: (n) => ({ priority: 1000 - n }), // the higher its number, the sooner
  delayed: () => ({ delay: 1000 })
}

await run(async () => {
  if (what === 'add') {
    const jobs = new Queue(queue, options)
    jobs.on('error', () => {}) // a connection that is lost is made anew, and what was not answered is sent again
    for await (const n of createInterface({ input: process.stdin })) {
      // BullMQ itself numbers jobs by a counter, at two peers alike.
      await jobs.add('job', { n }, { jobId: 'n' + n, ...kinds[kind](n) })
      console.log(n)
    }
    return
  }
  const seen = new Set()
  await new Promise((resolve) => {
    const worker = new Worker(queue, async (job) => {
      const early = job.timestamp + (job.opts.delay ?? 0) - Date.now()
      console.log(early > 0 ? `${early} ms before its time: ${job.data.n}` : job.data.n)
      seen.add(job.data.n)
    }, { ...options, lockDuration: 2000, stalledInterval: 500, maxStalledCount: 100 })
    worker.on('error', () => {})
    const look = setInterval(async () => {
      if (seen.size < Number(howMany)) return
      clearInterval(look)
      await worker.close()
      resolve()
    }, 20)
  })
})
