import { WebSocket } from 'ws';
import type { Transport } from '@flagcast/client';
import type { TailOutput } from './tail-output.js';

/**
 * What the client reaches the network through: it takes nothing in while the output is blocked.
 * `onOpening` is called for each new socket; `onClose` with the server's word for ending one, before
 * the client hears of it; `onResync` with the reason why missed events cannot all be brought.
 */
export function createTransport(options: {
  readonly output: TailOutput;
  readonly onOpening: () => void;
  readonly onClose: (code: number, reason: string) => void;
  readonly onResync: (reason: string) => void;
}): Transport {
  const { output, onOpening, onClose, onResync } = options;

  class TailSocket extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      onOpening();
      this.once('close', (code, reason) => onClose(code, reason.toString('utf8')));
      this.on('message', (data) => {
        const reason = resyncReason((data as Buffer).toString('utf8'));
        if (reason !== null) onResync(reason);
        if (output.draining === null || this.isPaused) return;
        this.pause();
        void output.draining.then(() => this.resume());
      });
    }

    override close(): void {
      // The answer to a goodbye would not be read.
      if (this.isPaused) this.terminate();
      else super.close();
    }
  }

  return {
    WebSocket: TailSocket,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (response.body === null) return response;
      const paced = new TransformStream<Uint8Array, Uint8Array>({
        transform: async (chunk, controller) => {
          await output.draining;
          controller.enqueue(chunk);
        },
      });
      return new Response(response.body.pipeThrough(paced), response);
    },
  };
}

/** The client takes a new snapshot and goes on, without a word about what a listing then lacks. */
function resyncReason(text: string): string | null {
  // Nearly all messages are events: they are parsed once, by the client.
  if (!text.includes('"resync"')) return null;
  try {
    const message = JSON.parse(text) as { type?: unknown; reason?: unknown } | null;
    return message?.type === 'resync' ? String(message.reason) : null;
  } catch {
    return null;
  }
}
