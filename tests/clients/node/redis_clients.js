// What the two Redis clients of Node share: `PORT DSN publish COUNT` publishes to a gateway, `PORT DSN consume COUNT`
// consumes from it and commits.
//
// Published are a text, bytes, and COUNT messages in one pipeline. What the client answers and the messages are printed as
// JSON, one a line. `send` sends one command, a list of words, and returns its answer.

function tell(value) {
  console.log(JSON.stringify(value));
}

async function publish(send, count) {
  tell({ text: await send(['SET', 'k1', JSON.stringify({ name: 'Zoë' })]) });
  tell({ bytes: await send(['SET', 'k2', Buffer.from([0xff, 0x00, 0x0d, 0x0a])]) });
  // Both clients send what is asked for in one turn as a pipeline.
  const numbers = Array.from({ length: count }, (_, number) => number);
  const answers = await Promise.all(numbers.map((number) => send(['SET', `p${number}`, `${number}`])));
  tell({ pipeline: answers.every((answer) => answer === 'OK') });
  await send(['FLUSHALL']).catch((error) => tell({ unknown: error.message }));
  tell({ ping: (await send(['PING'])) === 'PONG' });
}

async function consume(send, count) {
  for (let taken = 0; taken < count; ) {
    const lot = (await send(['MGET', ''])).map((message) => JSON.parse(message));
    lot.forEach(tell);
    taken += lot.length;
    const ends = new Map(lot.map(({ partition, offset }) => [partition, offset]));
    for (const [partition, offset] of ends) {
      await send(['SET', `${partition}`, `${offset}`]);
    }
  }
}

exports.run = async (send, work, count) => {
  await { publish, consume }[work](send, Number(count));
};
