// Node amqplib: `URL publish EXCHANGE QUEUE` publishes messages of every kind, `URL read QUEUE COUNT` reads messages.
//
// Published are, each with its name as the property `type` unless it shall have no properties: headers and
// properties of every type, payloads of every kind. Read messages are printed as JSON, one a line.

const zlib = require('node:zlib');
const amqplib = require('amqplib');

const ORDER = { id: 7, customer: 'Zoë', total: 12.5, lines: [{ sku: 'a', count: 2 }] };

const HEADERS = {
  text: 'größe',
  small: 42,
  large: 2 ** 40,
  negative: -7,
  yes: true,
  float: 1.5,
  whole: 12.0,
  huge: 1e300,
  decimal: { '!': 'decimal', value: { places: 2, digits: 1250 } },
  time: { '!': 'timestamp', value: 1709208000 },
  single: { '!': 'float', value: 0.1 },
  short: { '!': 'short', value: -300 },
  unsigned: { '!': 'uint32', value: 4294967295 },
  byte: { '!': 'byte', value: -1 },
  tenant: Buffer.from('acme'),
  bytes: Buffer.from([0xff, 0xfe]),
  nil: null,
  list: [1, 'a', null, 1.5, { deep: true }],
  table: { a: { b: [1] } },
  'x-request-id': 'r',
};

async function publish(channel, exchange, queue) {
  const send = (type, body, options = {}, to = [exchange, exchange]) =>
    channel.publish(...to, Buffer.from(body), { type, mandatory: true, ...options });
  const json = JSON.stringify(ORDER);

  // As the first example of amqplib's documentation does.
  channel.sendToQueue(queue, Buffer.from('something to do'));
  send('straight', json, {}, ['', queue]);
  send('headers', json, { headers: HEADERS });
  send('properties', json, {
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    persistent: true,
    priority: 5,
    correlationId: 'c',
    replyTo: 'r',
    expiration: 60000,
    messageId: '17',
    timestamp: 1709208000,
    appId: 'a',
  });
  // `Date.now()` where AMQP has seconds.
  send('milliseconds', json, { timestamp: 1709208000123 });
  send('json', json, { contentType: 'application/json' });
  send('json-bom', `\ufeff${json}`);
  send('json-utf-16', Buffer.from(`\ufeff${json}`, 'utf16le'));
  send('json-gzip', zlib.gzipSync(json), { contentEncoding: 'gzip' });
  send('json-deflate', zlib.deflateSync(json), { contentEncoding: 'deflate' });
  send('json-raw-deflate', zlib.deflateRawSync(json), { contentEncoding: 'deflate' });
  send('copied', json, { CC: [`${exchange}.copy`], BCC: [`${exchange}.blind`] });
  await channel.waitForConfirms();
}

async function read(channel, queue, count) {
  for (const end = Date.now() + 60_000; count > 0 && Date.now() < end; ) {
    const message = await channel.get(queue, { noAck: true });
    if (!message) {
      await new Promise((later) => setTimeout(later, 50));
      continue;
    }
    count -= 1;
    const { messageId: id, contentType, deliveryMode, replyTo, headers } = message.properties;
    // Node has no msgpack.
    const payload = contentType === 'application/json' ? JSON.parse(message.content) : null;
    const shown = { id, content_type: contentType, delivery_mode: deliveryMode, reply_to: replyTo };
    console.log(JSON.stringify({ ...shown, headers, payload }));
  }
}

async function main([url, command, place, more]) {
  const connection = await amqplib.connect(url);
  const channel = await connection.createConfirmChannel();
  channel.on('return', (message) => {
    throw new Error(`no queue took ${message.properties.type}`);
  });
  await (command === 'publish' ? publish(channel, place, more) : read(channel, place, Number(more)));
  await connection.close();
}

main(process.argv.slice(2));
