import { useScope } from './scope.js';
import { visible } from '../i18n/visible.js';

/** The title of the browser tab, e.g. `Flags · prod · Web shop · Flagcast`. */
export function PageTitle({ text }: { readonly text: string }) {
  const { project, environment } = useScope();
  return <title>{`${text} · ${visible(environment.key)} · ${visible(project.name)} · Flagcast`}</title>;
}
