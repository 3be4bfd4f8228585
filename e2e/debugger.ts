import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { RunningCommand } from '../packages/server/test/command.js';

const root = fileURLToPath(new URL('../', import.meta.url));

interface LaunchConfiguration {
  readonly name: string;
  readonly program: string;
  readonly args?: readonly string[];
}

interface Location {
  readonly lineNumber: number;
  readonly columnNumber: number;
}

interface Paused {
  readonly callFrames: readonly { readonly callFrameId: string }[];
  readonly hitBreakpoints?: readonly string[];
  /** The script that runs next, if an instrumentation breakpoint paused. */
  readonly data?: { readonly scriptId: string; readonly url: string; readonly sourceMapURL: string };
}

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Paused;
  readonly result?: Record<string, unknown>;
}

/** Runs a configuration of `.vscode/launch.json` as VS Code does: each of its processes waits for the debugger. */
export class LaunchedProgram extends RunningCommand {
  readonly #attached = new Set<string>();

  constructor(name: string, relativeFile: string, env: Readonly<Record<string, string>>) {
    const { configurations } = JSON.parse(readFileSync(path.join(root, '.vscode/launch.json'), 'utf8')) as {
      configurations: readonly LaunchConfiguration[];
    };
    const configuration = configurations.find((each) => each.name === name);
    if (configuration === undefined) throw new Error(`launch.json has no configuration "${name}"`);
    const filled = (text: string): string =>
      text.replace('${workspaceFolder}', root).replace('${relativeFile}', relativeFile);
    const args = (configuration.args ?? []).map(filled);
    const options = { ...env, NODE_OPTIONS: '--inspect-brk=127.0.0.1:0' };
    super(args, { file: filled(configuration.program), env: options });
  }

  /** Attaches to the next process of Node that waits for the debugger. */
  async nextProcess(): Promise<Debuggee> {
    const waiting = /^Debugger listening on (ws:\S+)/;
    const isNew = (line: string): boolean => !this.#attached.has(line) && waiting.test(line);
    const line = await this.errorLine(isNew);
    this.#attached.add(line);
    return await Debuggee.attach(waiting.exec(line)?.[1] ?? '');
  }
}

/** A process that waits for its debugger. */
class Debuggee {
  readonly #socket: WebSocket;
  readonly #answers = new Map<number, (result: Record<string, unknown>) => void>();
  #lastId = 0;
  #onPaused: ((paused: Paused) => Promise<void>) | null = null;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer) => {
      const { id = 0, method, params, result } = JSON.parse(data.toString()) as Message;
      this.#answers.get(id)?.(result ?? {});
      if (method === 'Debugger.paused' && params !== undefined) void this.#onPaused?.(params);
    });
  }

  static async attach(url: string): Promise<Debuggee> {
    const socket = new WebSocket(url);
    await once(socket, 'open');
    const process = new Debuggee(socket);
    await process.#request('Debugger.enable');
    return process;
  }

  /** Lets the process run without the debugger. */
  async run(): Promise<void> {
    this.#onPaused = async () => {
      await this.#request('Debugger.disable');
      this.#socket.close();
    };
    await this.#request('Runtime.runIfWaitingForDebugger');
    await once(this.#socket, 'close');
  }

  /** Lets the process run to the line of a TypeScript file with this code. Resolves with an expression's value there. */
  async runTo(file: string, code: string, expression: string): Promise<unknown> {
    const source = path.join(root, file);
    const line = readFileSync(source, 'utf8')
      .split('\n')
      .findIndex((each) => each.includes(code));
    // As VS Code does, to set breakpoints before a file runs.
    const instrumentation = 'beforeScriptWithSourceMapExecution';
    await this.#request('Debugger.setInstrumentationBreakpoint', { instrumentation });
    const value = await new Promise<unknown>((resolve) => {
      this.#onPaused = async ({ hitBreakpoints = [], callFrames, data }) => {
        const callFrameId = callFrames[0]?.callFrameId;
        if (data?.url.endsWith(source) === true) await this.#breakAt(data, line);
        else if (data === undefined && hitBreakpoints.length > 0) {
          const evaluate = { callFrameId, expression, returnByValue: true };
          const { result } = await this.#request('Debugger.evaluateOnCallFrame', evaluate);
          resolve((result as { value: unknown }).value);
          return;
        }
        await this.#request('Debugger.resume');
      };
      void this.#request('Runtime.runIfWaitingForDebugger');
    });
    await this.#request('Debugger.disable');
    this.#socket.close();
    return value;
  }

  async #breakAt({ scriptId, sourceMapURL }: NonNullable<Paused['data']>, line: number): Promise<void> {
    const [, map = ''] = sourceMapURL.split(',');
    const payload = JSON.parse(Buffer.from(map, 'base64').toString()) as SourceMapPayload;
    const { scriptSource } = await this.#request('Debugger.getScriptSource', { scriptId });
    const location = generatedLocation(new SourceMap(payload), String(scriptSource), line);
    await this.#request('Debugger.setBreakpoint', { location: { scriptId, ...location } });
  }

  async #request(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = (this.#lastId += 1);
    return await new Promise((resolve) => {
      this.#answers.set(id, resolve);
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }
}

/** Where the compiled script has a line of its source. */
function generatedLocation(map: SourceMap, script: string, line: number): Location {
  for (const [lineNumber, text] of script.split('\n').entries()) {
    for (let columnNumber = 0; columnNumber < text.length; columnNumber += 1) {
      const entry = map.findEntry(lineNumber, columnNumber);
      if ('originalLine' in entry && entry.originalLine === line && entry.generatedLine === lineNumber)
        return { lineNumber, columnNumber: entry.generatedColumn };
    }
  }
  throw new Error(`The source map has no line ${line + 1}`);
}
