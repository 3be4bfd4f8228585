import { usePlace } from './place.js';

/** The title of the browser's tab, e.g. `Flags · prod · Web shop`. */
export function PageTitle({ text }: { readonly text: string }) {
  const { project, environment } = usePlace();
  return <title>{`${text} · ${environment.key} · ${project.name} · Flagcast`}</title>;
}
