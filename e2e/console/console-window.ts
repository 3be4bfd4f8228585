import type { ServerMessage } from '@flagcast/protocol';
import type { Browser, BrowserContext, ConsoleMessage, Page, WebSocketRoute } from 'playwright-core';
import { launchChromium } from './chromium.js';

let chromium: Promise<Browser> | undefined;

/** One Chromium for all test files of a worker; it ends with the worker. Each window has a context of its own. */
export async function sharedChromium(): Promise<Browser> {
  chromium ??= launchChromium();
  return await chromium;
}

/** An error that the browser reported. */
export interface Problem {
  /** The console message of Chromium, or the uncaught error. */
  readonly text: string;
  /** URL of the request or script; empty if unknown. */
  readonly url: string;
}

export interface WindowOptions {
  /** A small phone, 360 x 740, with a touch screen; default a window of 1280 x 900. */
  readonly phone?: boolean;
  /** Default `light`. */
  readonly theme?: 'light' | 'dark';
  /** Language of the browser, e.g. `ru-RU`; null: the language of the system. Default `en-GB`. */
  readonly language?: string | null;
  /** The path of the console, without a slash at its end. Default: none. */
  readonly basePath?: string;
  /** Enables `injectMessage`. Default false. */
  readonly injectsMessages?: boolean;
  /** Needed by tests that add scripts or routes to the window, or end the server: no other test gets it. Default false. */
  readonly isOwn?: boolean;
}

/** Time-out of Playwright's actions, in milliseconds, long enough for a loaded machine. */
const defaultTimeoutMs = 120_000;

function sizeOf({ phone = false }: WindowOptions): { readonly width: number; readonly height: number } {
  return phone ? { width: 360, height: 740 } : { width: 1280, height: 900 };
}

/** The browser of a user: a context with its own storage, and its first tab. */
export class ConsoleWindow {
  readonly context: BrowserContext;
  readonly page: Page;
  readonly #problems: Problem[] = [];
  readonly #expectedProblems: ((problem: Problem) => boolean)[] = [];
  readonly #origin: string;
  #socket: WebSocketRoute | null = null;

  private constructor(context: BrowserContext, page: Page, origin: string) {
    this.context = context;
    this.page = page;
    this.#origin = origin;
  }

  /** Opens an empty tab for the console at `origin`; with a token the user is signed in. */
  static async open(
    browser: Browser,
    origin: string,
    token: string | null,
    options: WindowOptions = {},
  ): Promise<ConsoleWindow> {
    const { phone = false, language = 'en-GB' } = options;
    const context = await browser.newContext({
      baseURL: origin,
      viewport: sizeOf(options),
      isMobile: phone,
      hasTouch: phone,
      colorScheme: options.theme ?? 'light',
      // Animated elements have other colours meanwhile, and to paint them takes a tenth of the processor time.
      reducedMotion: 'reduce',
      ...(language === null ? {} : { locale: language }),
      timezoneId: 'UTC',
    });
    context.setDefaultTimeout(defaultTimeoutMs);
    if (token !== null) {
      // Keeps a token that the page has renewed.
      await context.addInitScript(`sessionStorage['flagcast.token${options.basePath ?? ''}'] ??= '${token}'`);
    }
    const page = await context.newPage();
    const window = new ConsoleWindow(context, page, origin);
    if (options.injectsMessages === true) {
      await page.routeWebSocket('**/api/ws', (socket) => {
        socket.connectToServer();
        window.#socket = socket;
      });
    }
    window.#watch(page);
    return window;
  }

  /** Opens another tab of the same browser. */
  async openTab(path: string): Promise<Page> {
    const page = await this.context.newPage();
    this.#watch(page);
    await page.goto(path);
    return page;
  }

  /** Sends a message to the page as if it came from the server. */
  injectMessage(message: ServerMessage): void {
    if (this.#socket === null)
      throw new Error('The page has no WebSocket: open the window with injectsMessages.');
    this.#socket.send(JSON.stringify(message));
  }

  /** Ignores problems that the test expects. */
  expectProblem(fits: (problem: Problem) => boolean): void {
    this.#expectedProblems.push(fits);
  }

  /** Ignores an expected HTTP error, which Chromium reports in its console. */
  expectRefusal(status: number, pathPart: string): void {
    this.expectProblem(
      ({ text, url }) =>
        text.includes(`the server responded with a status of ${status}`) && url.includes(pathPart),
    );
  }

  /** Ignores the errors of an outage of the server or the network. */
  expectOutage(): void {
    const outage = /^Failed to load resource: net::ERR_|^WebSocket connection to 'ws:.*failed: /;
    this.expectProblem(({ text }) => outage.test(text));
    this.expectRefusal(503, '/api/');
  }

  /** Closes the window. Returns its unexpected problems, one line each. */
  async close(): Promise<string[]> {
    await this.context.close();
    return this.#unexpectedProblems();
  }

  /**
   * Closes the other tabs, and empties the storage of the browser, for another test: a new browser takes twice the processor
   * time. Returns the unexpected problems.
   */
  async clear(options: WindowOptions): Promise<string[]> {
    const problems = this.#unexpectedProblems();
    for (const page of this.context.pages()) if (page !== this.page) await page.close();
    await this.context.setOffline(false);
    await this.page.goto('/healthz');
    await this.page.evaluate('sessionStorage.clear(); localStorage.clear();');
    await this.page.setViewportSize(sizeOf(options));
    this.#problems.length = 0;
    this.#expectedProblems.length = 0;
    return problems;
  }

  #unexpectedProblems(): string[] {
    return this.#problems
      .filter((problem) => !this.#expectedProblems.some((fits) => fits(problem)))
      .map(({ text, url }) => `${text} (${url})`);
  }

  #watch(page: Page): void {
    page.on('console', (message: ConsoleMessage) => {
      if (message.type() !== 'error') return;
      this.#problems.push({ text: message.text(), url: message.location().url });
    });
    page.on('pageerror', (error) => {
      this.#problems.push({ text: error.stack ?? error.message, url: page.url() });
    });
    page.on('request', (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol === 'data:' || protocol === 'blob:' || origin === this.#origin) return;
      this.#problems.push({ text: 'A request to another origin', url: request.url() });
    });
  }
}
