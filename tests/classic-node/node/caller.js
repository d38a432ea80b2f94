// Calls a service as the Node library 0.3.x would: `node caller.js HOST PORT` runs every check below against a service
// that has the methods of the Rust side, and ends with 0 if all hold.
'use strict'

const assert = require('assert')
const net = require('net')
const { receiver, sender } = require('./codec')

const [host, port] = [process.argv[2], Number(process.argv[3])]
const only = process.argv[4]

// One call on a connection of its own. Gives the items, or throws the error with the items so far in it.
async function call (cmd, args, input, options = {}) {
  const socket = net.connect({ host, port, allowHalfOpen: true })
  socket.setNoDelay(true)
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const out = sender(socket)
  out.send(args === undefined ? { cmd } : { cmd, args })
  const feeding = (async () => {
    if (!input) return
    for await (const item of input) {
      if (socket.destroyed || socket.writableEnded) return
      const wait = out.send(item)
      if (wait) await wait
    }
    out.end()
  })()
  const items = []
  let failure = new Error(`the service dropped the connection`)
  try {
    for await (const item of receiver(socket)) {
      if (item && item._type_ === 'end') { failure = null; break }
      if (item && item._type_ === 'error') { failure = new Error(item._message_); break }
      items.push(item)
      if (options.until && items.length === options.until) { socket.destroy(); break }
      if (options.pause) await new Promise((resolve) => setTimeout(resolve, options.pause))
    }
  } catch (error) {
    failure = error
  }
  if (!options.until) {
    // The server ends first; the client's FIN is only an answer to it.
    await Promise.race([new Promise((resolve) => socket.once('end', resolve)), closed, new Promise((resolve) => setTimeout(resolve, 20))])
  }
  out.end()
  socket.destroy()
  await closed
  await feeding
  if (failure && !options.until) throw Object.assign(failure, { items })
  return items
}

async function failing (...args) {
  try {
    await call(...args)
  } catch (error) {
    return error
  }
  assert.fail(`${args[0]} should have failed`)
}

function * numbers (n) {
  for (let i = 0; i < n; i++) yield i
}

const checks = {
  async 'a value for a value' () {
    assert.deepStrictEqual(await call('add', { a: 2, b: 5 }), [7])
    assert.deepStrictEqual(await call('who'), ['rust'])
  },
  async 'no value' () {
    assert.deepStrictEqual(await call('nothing'), [])
    assert.deepStrictEqual(await call('nothing', null), [])
  },
  async 'input that ends at once' () {
    assert.deepStrictEqual(await call('sum', undefined, []), [{ items: 0, sum: 0 }])
    assert.deepStrictEqual(await call('add', { a: 1, b: 1 }, []), [2])
  },
  async '100,000 items in' () {
    assert.deepStrictEqual(await call('sum', undefined, numbers(100000)), [{ items: 100000, sum: 4999950000 }])
  },
  async '100,000 items out' () {
    const items = await call('count', { n: 100000 })
    assert.strictEqual(items.length, 100000)
    items.forEach((item, i) => assert.ok(item.index === i && item.name === 'item-' + i))
  },
  async '100,000 items there and back' () {
    const items = await call('echo', undefined, numbers(100000))
    assert.strictEqual(items.length, 100000)
    items.forEach((item, i) => assert.strictEqual(item, i))
  },
  async 'dates' () {
    const when = new Date(1441929600123)
    const [{ when: back, later }] = await call('later', { when })
    assert.strictEqual(back.getTime(), when.getTime())
    assert.strictEqual(later.getTime(), when.getTime() + 1000)
    const [before] = await call('later', { when: new Date(-86400000) })
    assert.strictEqual(before.later.getTime(), -86399000)
  },
  async 'bytes' () {
    const [twice] = await call('bytes', { data: Buffer.from([0, 1, 255]) })
    assert.ok(Buffer.isBuffer(twice) && twice.equals(Buffer.from([0, 1, 255, 0, 1, 255])))
  },
  async 'values of every kind come back as they went' () {
    const values = [0, -1, -33, 255, 70000, 4294967295, 9007199254740991, -200000000, 0.5, 123456789.123, true, false, null, 'wörld',
      [], {}, [1, [2]], { a: { b: [null] } }, 'x'.repeat(70000)]
    assert.deepStrictEqual(await call('same', values), [values])
  },
  async 'integers that a 64-bit writer would lose them with' () {
    assert.deepStrictEqual(await call('wide'), [[-2147483648, -2147483649, 9007199254740991, -9007199254740991, 4294967296]])
  },
  async 'errors' () {
    const broken = await failing('fail', { after: 3 })
    assert.strictEqual(broken.message, '[rusty] it broke')
    assert.deepStrictEqual(broken.items, [0, 1, 2])
    for (const cmd of ['no-such', 'toString', '__proto__', 'constructor', '', 'x'.repeat(300)]) {
      assert.strictEqual((await failing(cmd, { a: 1 })).message, `rusty:${cmd} Does not exist`)
      assert.strictEqual((await failing(cmd, undefined, [1])).message, `rusty:${cmd} Does not exist`)
    }
    assert.match((await failing('add', 'nonsense')).message, /^\[rusty\] the arguments/)
    assert.match((await failing('record')).message, /^\[rusty\] .*_type_/)
    assert.match((await failing('huge')).message, /^\[rusty\] .*9007199254740993/)
  },
  async 'a caller that reads slowly gets everything' () {
    const items = await call('count', { n: 300 }, undefined, { pause: 1 })
    assert.strictEqual(items.length, 300)
  },
  async 'a caller that goes away' () {
    assert.strictEqual((await call('endless', undefined, undefined, { until: 100 })).length, 100)
  },
  async '1,000 calls, 50 at a time' () {
    for (let i = 0; i < 20; i++) {
      const calls = Array.from(numbers(50), (n) => call('add', { a: i, b: n }))
      const sums = await Promise.all(calls)
      sums.forEach((sum, n) => assert.deepStrictEqual(sum, [i + n]))
    }
  }
}

;(async () => {
  if (only === 'who') {
    console.log((await call('who'))[0])
    return
  }
  for (const [name, check] of Object.entries(checks)) {
    await check().catch((error) => { error.message = `${name}: ${error.message}`; throw error })
    console.log('ok', name)
  }
})().catch((error) => { console.error(error); process.exit(1) })
