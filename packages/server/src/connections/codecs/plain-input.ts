import { textFrame } from './frame.js';

/**
 * The answer to what a plain client sent: to `{"type":"ping"}` a pong with the time in seconds since
 * the epoch, to anything else nothing, because the specification gives it no meaning.
 */
export function answerPlain(data: Buffer): Buffer | null {
  let message: unknown;
  try {
    message = JSON.parse(data.toString('utf8'));
  } catch {
    return null;
  }
  if (typeof message !== 'object' || message === null) return null;
  if (!('type' in message) || message.type !== 'ping') return null;
  return textFrame(JSON.stringify({ type: 'pong', timestamp: Math.floor(Date.now() / 1_000) }));
}
