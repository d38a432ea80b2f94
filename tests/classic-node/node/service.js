// A service as the Node library 0.3.x would run it: `node service.js NAME` prints its port. A line on standard input asks
// how many sockets are open; its end, to leave. With CONSUL=host:port it registers itself there and keeps its check passing.
'use strict'

const http = require('http')
const net = require('net')
const readline = require('readline')
const { END, receiver, sender } = require('./codec')

const NAME = process.argv[2] || 'classic'

const methods = {
  add: async ({ a, b }, input, out) => { await out.send(a + b) },
  who: async (args, input, out) => { await out.send('node') },
  nothing: async () => {},
  kind: async (args, input, out) => { await out.send(args === undefined ? 'undefined' : args === null ? 'null' : typeof args) },
  echo: async (args, input, out) => { for await (const item of input) { const wait = out.send(item); if (wait) await wait } },
  sum: async (args, input, out) => {
    let [items, sum] = [0, 0]
    for await (const item of input) { items++; sum += item }
    await out.send({ items, sum, by: 'node' })
  },
  count: async ({ n }, input, out) => {
    for (let i = 0; i < n; i++) { const wait = out.send({ index: i, name: 'item-' + i, by: 'node' }); if (wait) await wait }
  },
  later: async ({ when }, input, out) => { await out.send({ when, later: new Date(when.getTime() + 1000) }) },
  bytes: async ({ data }, input, out) => { await out.send(Buffer.concat([data, data])) },
  text: async (args, input, out) => { await out.send(JSON.stringify(args)) },
  same: async (args, input, out) => { await out.send(args) },
  fail: async ({ after }, input, out) => {
    for (let i = 0; i < after; i++) await out.send(i)
    throw new Error('it broke')
  },
  drop: async ({ after, how }, input, out, socket) => {
    for (let i = 0; i < after; i++) await out.send(i)
    await new Promise((resolve) => setTimeout(resolve, 50))
    if (how === 'rst') socket.resetAndDestroy()
    else socket.destroy()
  },
  endless: async (args, input, out, socket) => {
    for (let i = 0; !socket.destroyed; i++) { const wait = out.send(String(i).padStart(200, '0')); if (wait) await wait }
  },
  hang: async () => { await new Promise(() => {}) }
}

const server = net.createServer({ allowHalfOpen: true }, (socket) => {
  const out = sender(socket)
  const input = receiver(socket)
  const fail = (text, end) => {
    out.send({ _type_: 'error', _message_: text })
    if (end) out.send(END)
    out.end()
  }
  input.on('error', () => socket.destroy())
  input.once('data', (header) => {
    input.pause()
    const { cmd, args } = header
    if (!Object.prototype.hasOwnProperty.call(methods, cmd)) {
      input.resume()
      return fail(`${NAME}:${cmd} Does not exist`, true)
    }
    methods[cmd](args, input, out, socket).then(() => {
      if (socket.destroyed) return
      out.send(END)
      out.end()
      input.resume()
    }, (error) => {
      fail(`[${NAME}] ${error.message}`, false)
      input.resume()
    })
  })
})

function consul (method, path, body) {
  return new Promise((resolve, reject) => {
    const [host, port] = process.env.CONSUL.split(':')
    const request = http.request({ host, port, method, path }, (answer) => {
      answer.resume()
      answer.on('end', () => answer.statusCode === 200 ? resolve() : reject(new Error(`${path}: ${answer.statusCode}`)))
    })
    request.on('error', reject)
    request.end(body && JSON.stringify(body))
  })
}

let leave = async () => {}

server.listen(0, '127.0.0.1', async () => {
  const port = server.address().port
  if (process.env.CONSUL) {
    const id = `${NAME}-${port}`
    await consul('PUT', '/v1/agent/service/register', { Name: NAME, ID: id, Port: port })
    await consul('PUT', '/v1/agent/check/register', { ID: `check:${id}`, Name: `check:${id}`, ServiceID: id, TTL: '10s' })
    const pass = () => consul('PUT', `/v1/agent/check/pass/${encodeURIComponent(`check:${id}`)}`)
    await pass()
    const beating = setInterval(pass, 8000)
    leave = async () => {
      clearInterval(beating)
      await consul('PUT', `/v1/agent/service/deregister/${id}`)
    }
  }
  console.log(port)
})

readline.createInterface({ input: process.stdin }).on('line', () => {
  server.getConnections((error, count) => console.log(error ? -1 : count))
}).on('close', () => leave().then(() => process.exit(0), (error) => { console.error(error); process.exit(1) }))
