/** The packets of MQTT 3.1.1 that a subscriber and a publisher with QoS 0 need. */

/** Packet types: the high half of the first byte. */
export const packetTypes = /** @type {const} */ ({ connack: 2, publish: 3, suback: 9 });

/**
 * @param {number} firstByte
 * @param {readonly Buffer[]} parts
 */
function packet(firstByte, parts) {
  const body = Buffer.concat(parts);
  const length = [];
  let rest = body.length;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    length.push(rest > 0 ? low | 0x80 : low);
  } while (rest > 0);
  return Buffer.concat([Buffer.from([firstByte, ...length]), body]);
}

/** @param {string} value */
function text(value) {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** CONNECT with a clean session, without a client id and without keep-alive. */
export const connectPacket = packet(0x10, [text('MQTT'), Buffer.from([4, 2, 0, 0]), text('')]);

/** @param {string} topic */
export function subscribePacket(topic) {
  return packet(0x82, [Buffer.from([0, 1]), text(topic), Buffer.from([0])]);
}

/**
 * @param {string} topic
 * @param {string} message
 */
export function publishPacket(topic, message) {
  return packet(0x30, [text(topic), Buffer.from(message)]);
}
