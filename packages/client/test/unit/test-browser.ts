import { WebSocket } from 'ws';
import { vi } from 'vitest';
import { type Client, type ClientOptions, createClient, type WebSocketClass } from '../../src/index.js';
import { type SharedTabsOptions, sharedTabs, type TabBus, type TabLocks } from '../../src/tabs/index.js';

interface LockRequest {
  readonly tab: object;
  readonly grant: () => void;
  readonly reject: (error: Error) => void;
}

/** The Web Locks of one browser: exclusive locks, granted in the order of the requests. */
class LockTable {
  readonly #queues = new Map<string, LockRequest[]>();

  /** Returns the locks for one tab. */
  forTab(tab: object): TabLocks {
    return {
      request: async (name, { signal, steal }, granted) =>
        await new Promise((resolve, reject) => {
          const request: LockRequest = {
            tab,
            reject,
            grant: () => {
              const finish = (): void => this.#remove(name, request);
              Promise.resolve().then(granted).then(resolve, reject).finally(finish);
            },
          };
          signal?.addEventListener('abort', () => {
            const queue = this.#queues.get(name) ?? [];
            if (!queue.includes(request) || queue[0] === request) return;
            this.#remove(name, request);
            reject(new DOMException('The request was aborted.', 'AbortError'));
          });
          const queue = this.#queues.get(name) ?? [];
          this.#queues.set(name, queue);
          if (steal === true) {
            queue.shift()?.reject(new DOMException('The lock was stolen.', 'AbortError'));
            queue.unshift(request);
          } else queue.push(request);
          if (queue[0] === request) request.grant();
        }),
    };
  }

  /** Releases the locks of a tab that has ended. */
  releaseAll(tab: object): void {
    for (const [name, queue] of this.#queues) {
      for (const request of queue.filter((other) => other.tab === tab)) this.#remove(name, request);
    }
  }

  #remove(name: string, request: LockRequest): void {
    const queue = this.#queues.get(name) ?? [];
    const index = queue.indexOf(request);
    if (index < 0) return;
    queue.splice(index, 1);
    if (index === 0) queue[0]?.grant();
  }
}

export interface Tab {
  readonly client: Client;
  /** Simulates that the tab's process is killed: its code stops and no message is sent. */
  readonly crash: () => void;
  /** Simulates that the tab hangs: it neither sends nor receives messages of other tabs. */
  readonly hang: () => void;
  /** Whether the tab ignores messages from other tabs, as if it were busy. */
  readonly setUnresponsive: (isUnresponsive: boolean) => void;
  /** Dispatches an event of the page, e.g. `pagehide`. */
  readonly fire: (type: string) => void;
}

/** A browser whose tabs share Web Locks and broadcast channels. */
export class TestBrowser {
  readonly #locks = new LockTable();
  readonly tabs: Tab[] = [];

  open(options: ClientOptions, tabs: Partial<SharedTabsOptions> = {}): Tab {
    const tabKey = {};
    const state = { isKilled: false, isUnresponsive: false, isHung: false };
    const sockets: WebSocket[] = [];
    const page = new EventTarget();
    const bus = class implements TabBus {
      onmessage: ((event: never) => unknown) | null = null;
      readonly #channel: BroadcastChannel;
      constructor(name: string) {
        this.#channel = new BroadcastChannel(name);
        this.#channel.onmessage = (event) => {
          if (!state.isKilled && !state.isUnresponsive && !state.isHung) this.onmessage?.(event as never);
        };
      }
      postMessage(message: unknown): void {
        if (!state.isKilled && !state.isHung) this.#channel.postMessage(message);
      }
      close(): void {
        this.#channel.close();
      }
    };
    const TabSocket = function (url: string, protocols: string[]) {
      if (state.isKilled) return { close: () => undefined, send: () => undefined };
      const socket = new WebSocket(url, protocols);
      sockets.push(socket);
      return socket;
    } as unknown as WebSocketClass;
    vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
    const client = createClient({
      WebSocket: TabSocket,
      ...options,
      shareTabs: sharedTabs({
        userId: 'ada',
        locks: this.#locks.forTab(tabKey),
        BroadcastChannel: bus,
        ...tabs,
      }),
    });
    vi.unstubAllGlobals();
    const tab: Tab = {
      client,
      crash: () => {
        state.isKilled = true;
        for (const socket of sockets) {
          socket.onmessage = socket.onclose = null;
          socket.terminate();
        }
        this.#locks.releaseAll(tabKey);
      },
      hang: () => (state.isHung = true),
      setUnresponsive: (isUnresponsive) => (state.isUnresponsive = isUnresponsive),
      fire: (type) => page.dispatchEvent(new Event(type)),
    };
    this.tabs.push(tab);
    return tab;
  }

  close(): void {
    for (const { client } of this.tabs) client.close();
  }
}
