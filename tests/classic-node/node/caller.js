// Calls services as the Node library 0.3.x would.
//   node caller.js HOST PORT                    every check of the Rust service there
//   node caller.js consul ADDRESS NAME TASK     one of the tasks below, with the instances that Consul lists under the name
// Ends with 0 if all holds.
'use strict'

const assert = require('assert')
const http = require('http')
const net = require('net')
const { receiver, sender } = require('./codec')

// Whom `call` calls.
let target = { host: process.argv[2], port: Number(process.argv[3]) }

// One call on a connection of its own. Gives the items, or throws the error with the items so far in it.
async function call (cmd, args, input, options = {}) {
  const socket = net.connect({ ...target, allowHalfOpen: true })
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
      if (options.first && items.length === 1) options.first()
      if (options.until && items.length === options.until) { socket.destroy(); break }
      if (options.pause) await new Promise((resolve) => setTimeout(resolve, options.pause))
    }
  } catch (error) {
    failure = error
  }
  if (!options.until && !socket.destroyed) {
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

// What holds for a service of either kind, whose name is `name`.
async function eitherKind (name) {
  const [by] = await call('who')
  assert.deepStrictEqual(await call('add', { a: 2, b: 5 }), [7])
  assert.deepStrictEqual(await call('nothing'), [])
  assert.deepStrictEqual(await call('sum', undefined, numbers(100000)), [{ items: 100000, sum: 4999950000, by }])
  const items = await call('count', { n: 100000 })
  assert.strictEqual(items.length, 100000)
  items.forEach((item, i) => assert.ok(item.index === i && item.by === by))
  const echoed = await call('echo', undefined, numbers(100000))
  assert.strictEqual(echoed.length, 100000)
  echoed.forEach((item, i) => assert.strictEqual(item, i))
  const when = new Date(1441929600123)
  const [later] = await call('later', { when })
  assert.ok(later.when.getTime() === when.getTime() && later.later.getTime() === when.getTime() + 1000)
  const broken = await failing('fail', { after: 3 })
  assert.strictEqual(broken.message, `[${name}] it broke`)
  assert.deepStrictEqual(broken.items, [0, 1, 2])
  assert.strictEqual((await failing('no-such')).message, `${name}:no-such Does not exist`)
  assert.strictEqual((await call('endless', undefined, undefined, { until: 100 })).length, 100)
  return by
}

// Where the original would dial: the node's address, whatever the service's is.
function found (consul, name) {
  return new Promise((resolve, reject) => {
    http.get(`http://${consul}/v1/health/service/${name}?passing=true`, (answer) => {
      let text = ''
      answer.on('data', (part) => { text += part })
      answer.on('end', () => resolve(JSON.parse(text).map(({ Node, Service }) => ({ host: Node.Address, port: Service.Port }))))
    }).on('error', reject)
  })
}

const tasks = {
  // Prints who is found.
  async who (instances) {
    for (target of instances) console.log((await call('who'))[0])
  },
  // Every check of either kind, at each of them.
  async all (instances, name) {
    for (target of instances) console.log(await eitherKind(name))
  },
  // 1,000 calls in turn, 50 at a time; then no socket may be left here.
  async thousand (instances) {
    const counts = {}
    let turn = 0
    for (let i = 0; i < 20; i++) {
      await Promise.all(Array.from(numbers(50), async () => {
        target = instances[turn++ % instances.length]
        const [by] = await call('who')
        counts[by] = (counts[by] || 0) + 1
      }))
    }
    for (const by of Object.keys(counts).sort()) console.log(by, counts[by])
    const left = process.getActiveResourcesInfo().filter((name) => name.startsWith('TCPSocket'))
    assert.deepStrictEqual(left, [])
  },
  // Takes from the Rust service without end, says when it has begun, and prints why it ended.
  async endless (instances) {
    for (target of instances) {
      if ((await call('who'))[0] !== 'rust') continue
      const error = await failing('endless', undefined, undefined, { first: () => console.log('begun') })
      assert.ok(error.items.every((item, i) => item === String(i).padStart(200, '0')))
      console.log(error.message)
    }
  }
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
    assert.deepStrictEqual(await call('sum', undefined, []), [{ items: 0, sum: 0, by: 'rust' }])
    assert.deepStrictEqual(await call('add', { a: 1, b: 1 }, []), [2])
  },
  async '100,000 items in' () {
    assert.deepStrictEqual(await call('sum', undefined, numbers(100000)), [{ items: 100000, sum: 4999950000, by: 'rust' }])
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
    for (const cmd of ['later-chrono', 'later-time']) {
      for (const when of [new Date(1441929600123), new Date(-86400000), new Date(0)]) {
        const [[one, other]] = await call(cmd, { when })
        assert.ok(one.when instanceof Date && one.when.getTime() === when.getTime(), cmd)
        assert.strictEqual(other.when.getTime(), when.getTime() + 1000)
      }
      assert.match((await failing(cmd, { when: new Date(NaN) })).message, /no moment/)
    }
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
  const [kind, consul, name, task] = process.argv.slice(2)
  if (kind === 'consul') {
    await tasks[task](await found(consul, name), name)
    return
  }
  for (const [name, check] of Object.entries(checks)) {
    await check().catch((error) => { error.message = `${name}: ${error.message}`; throw error })
    console.log('ok', name)
  }
})().catch((error) => { console.error(error); process.exit(1) })
