import { usePlace } from './place.js';
import { visible } from '../texts/visible.js';

/** The title of the browser's tab, e.g. `Flags · prod · Web shop`. */
export function PageTitle({ text }: { readonly text: string }) {
  const { project, environment } = usePlace();
  return <title>{`${text} · ${visible(environment.key)} · ${visible(project.name)} · Flagcast`}</title>;
}
