// What the jobs have in common: where peerd answers, and the end.
import assert from 'node:assert/strict'

export const [host, port] = process.argv[2].split(':')
export const prefix = 'job-' + process.pid + ':'
export { assert }

// eventually waits until a condition holds, for half a minute at most.
export async function eventually(what, holds) {
  for (let end = Date.now() + 30000; ; await new Promise((r) => setTimeout(r, 20))) {
    if (await holds()) return
    if (Date.now() > end) throw new Error('did not come about: ' + what)
  }
}

// run runs a job and ends the process, whatever connections are left.
export async function run(job) {
  const timer = setTimeout(() => { console.error('the job does not end'); process.exit(1) }, 150000)
  try {
    await job()
    clearTimeout(timer)
    process.exit(0)
  } catch (e) {
    console.error(e)
    process.exit(1)
  }
}
