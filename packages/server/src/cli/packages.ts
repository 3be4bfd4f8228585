import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import type { CreateConsole, DemoUser } from '../flagcast-options.js';
import type { CreateRelay } from '../broadcast/relay.js';
import { describeError } from '../describe.js';
import type { Logger } from '../operations/log.js';
import { errorCode } from '../postgres/errors.js';
import type { SocketWriterFactory } from '../transport/socket-writer.js';
import { CommandError } from './command.js';

/** What the commands use of @flagcast/demo. */
interface DemoPackage {
  readonly startDemo: (options: {
    readonly dataDir: string;
    readonly copyDir: string;
    readonly install: (client: pg.ClientBase) => Promise<unknown>;
    readonly logger: Logger;
  }) => Promise<{
    /** It holds the password: never log it. */
    readonly databaseUrl: string;
    secret(): Promise<string>;
    stop(limitMs: number): Promise<void>;
  }>;
  readonly demoBanner: (server: { url: string; dataDir: string | null; traffic: boolean }) => string;
  readonly startTraffic: (options: {
    readonly databaseUrl: string;
    readonly onAction?: (line: string) => void;
  }) => { stop(): Promise<void> };
  readonly demoProjects: readonly { readonly id: string }[];
  readonly demoUsers: readonly DemoUser[];
}

interface ConsolePackage {
  readonly flagcastConsole: (options: { readonly demoUsers: readonly DemoUser[] }) => CreateConsole;
}

interface RelayPackage {
  readonly natsRelay: (options: { readonly url: string }) => CreateRelay;
}

interface IoUringPackage {
  readonly ioUring: SocketWriterFactory;
}

type Tracing = typeof import('../operations/export-traces.js');

// Names in variables: TypeScript need not find these packages.
const [demo, relay, ioUring] = ['@flagcast/demo', '@flagcast/relay-nats', '@flagcast/io-uring'];
const consoleName = '@flagcast/console';

export async function readVersion(): Promise<string> {
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Rejects with a CommandError that says `how` to install the package if it is missing. */
async function orExplain<Module>(importing: Promise<unknown>, how: string): Promise<Module> {
  try {
    return (await importing) as Module;
  } catch (error) {
    if (errorCode(error) !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new CommandError(how, { cause: error });
  }
}

/**
 * Imports an optional package. Rejects with a CommandError if its version, which must be that of Flagcast, is another one,
 * or if a package that it needs is missing.
 */
export async function importPackage<Module extends object>(
  name: string,
  wanted: keyof Module,
): Promise<Module> {
  let cause: unknown;
  try {
    const found = (await import(name)) as Module;
    if (typeof found[wanted] === 'function') return found;
  } catch (error) {
    // It is installed, but not a package that it imports.
    if (errorCode(error) === 'ERR_MODULE_NOT_FOUND' && !describeError(error).includes(`package '${name}'`)) {
      throw new CommandError(`${name} is installed without a package that it needs: npm install ${name}`, {
        cause: error,
      });
    }
    // It imports something that this version of Flagcast does not export.
    const isOther = error instanceof SyntaxError || errorCode(error) === 'ERR_PACKAGE_PATH_NOT_EXPORTED';
    if (!isOther) throw error;
    cause = error;
  }
  const version = await readVersion();
  throw new CommandError(
    `The installed version of ${name} does not fit flagcast ${version}: npm install ${name}@${version}`,
    { cause },
  );
}

/** @throws CommandError if it is not installed, or in another version. */
export async function loadDemo(): Promise<DemoPackage> {
  return await orExplain(
    importPackage<DemoPackage>(demo, 'startDemo'),
    `The demo needs the package ${demo}: npm install ${demo}; or give a database with --database-url or DATABASE_URL`,
  );
}

/** @throws CommandError if it is not installed, or in another version. */
export async function loadRelay(): Promise<RelayPackage> {
  return await orExplain(
    importPackage<RelayPackage>(relay, 'natsRelay'),
    `FLAGCAST_RELAY_URL needs the package ${relay}: npm install ${relay}; or unset FLAGCAST_RELAY_URL`,
  );
}

/** Null if it is not installed. @throws CommandError if `writes` need it, or if its version is another one. */
export async function loadConsole({ writes }: { readonly writes: boolean }): Promise<ConsolePackage | null> {
  try {
    return await importPackage<ConsolePackage>(consoleName, 'flagcastConsole');
  } catch (error) {
    if (errorCode(error) !== 'ERR_MODULE_NOT_FOUND') throw error;
    if (!writes) return null;
    throw new CommandError(
      `FLAGCAST_WRITES=on needs the package ${consoleName}: npm install ${consoleName}; or set FLAGCAST_WRITES=off`,
      { cause: error },
    );
  }
}

/** @throws CommandError if the packages of OpenTelemetry are not installed. */
export async function loadTracing(): Promise<Tracing> {
  return await orExplain(
    import('../operations/export-traces.js'),
    'OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) asks for traces, but the packages that send them are not installed: npm install @opentelemetry/api @opentelemetry/sdk-trace-node @opentelemetry/exporter-trace-otlp-http, or unset it',
  );
}

/** `ioUring` of the optional package, else a factory that throws the reason, for the log of the server. */
export async function loadSocketWriter(isOn: boolean): Promise<SocketWriterFactory> {
  let reason = 'FLAGCAST_IO_URING is off';
  try {
    if (isOn) return (await importPackage<IoUringPackage>(ioUring, 'ioUring')).ioUring;
  } catch (error) {
    const isMissing = errorCode(error) === 'ERR_MODULE_NOT_FOUND';
    reason = isMissing ? `${ioUring} is not installed` : describeError(error);
  }
  return () => {
    throw new Error(reason);
  };
}
