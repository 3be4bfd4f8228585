import { isProduction } from '../api/environments.js';
import type { Environment } from '../api/types.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { LockIcon } from './icons.js';

/** The name of an environment. Production has a colour, and the word for it if its name does not say so. */
export function EnvironmentName({ environment }: { readonly environment: Environment }) {
  const { t } = useI18n();
  const name = visible(environment.name);
  if (!isProduction(environment)) return name;
  return (
    <span className="fc-production">
      {/prod|прод/i.test(name) ? name : `${name} · ${t.shell.production}`}
    </span>
  );
}

/** The key of an environment, with its guard. */
export function EnvironmentKey({ environment }: { readonly environment: Environment }) {
  const { t } = useI18n();
  const { key, guarded } = environment;
  return (
    <span
      className={isProduction(environment) ? 'fc-env fc-production' : 'fc-env'}
      title={guarded ? t.shell.guarded : undefined}
    >
      {visible(key)}
      {guarded && <LockIcon size={13} />}
    </span>
  );
}
