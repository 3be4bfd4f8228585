import type { CreateRelay } from '../broadcast/relay.js';
import { errorCode } from '../postgres/errors.js';
import { CommandError } from './command.js';

interface RelayPackage {
  readonly natsRelay: (options: { readonly url: string }) => CreateRelay;
}

const packageName = '@flagcast/relay-nats';

/** @throws CommandError that says how to install the package. */
export async function loadRelay(): Promise<RelayPackage> {
  try {
    return (await import(packageName)) as RelayPackage;
  } catch (error) {
    if (errorCode(error) !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new CommandError(
      `FLAGCAST_RELAY_URL needs the package ${packageName}: npm install ${packageName}; or unset FLAGCAST_RELAY_URL`,
      { cause: error },
    );
  }
}
