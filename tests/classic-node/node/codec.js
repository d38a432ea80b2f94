// Frames and values as the Node library 0.3.x puts them on the wire, by the two packages it uses for that.
'use strict'

const lps = require('length-prefixed-stream')
const { Readable } = require('stream')

const msgpack = require('msgpack5')()
msgpack.register(0x42, Date, (date) => {
  const data = Buffer.alloc(8)
  data.writeDoubleLE(date.getTime(), 0)
  return data
}, (data) => new Date(data.readDoubleLE(0)))

const END = { _type_: 'end' }

// Sends values over a socket, one frame each; resolves when there is room for more.
function sender (socket) {
  const frames = lps.encode()
  frames.pipe(socket)
  return {
    send (value) {
      if (frames.write(msgpack.encode(value).slice()) !== false) return null
      return new Promise((resolve) => {
        frames.once('drain', resolve)
        socket.once('close', resolve)
      })
    },
    end () { frames.end() }
  }
}

// The values that come over a socket, as a stream of objects that holds the sender back while nobody reads. Nil, which
// no stream of objects can hold, ends it.
function receiver (socket) {
  const frames = lps.decode()
  const values = new Readable({ objectMode: true, highWaterMark: 16, read () { frames.resume() } })
  frames.on('data', (frame) => {
    if (!values.push(msgpack.decode(frame))) frames.pause()
  })
  frames.on('end', () => values.push(null))
  socket.on('error', (error) => values.destroy(error))
  socket.pipe(frames)
  return values
}

module.exports = { END, msgpack, receiver, sender }
