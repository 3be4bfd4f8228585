import { useDeferredValue } from 'react';
import { useConcerns } from '../approvals/use-concerns.js';
import { useScope } from './scope.js';
import { visible } from '../i18n/visible.js';

/** The title of the browser tab, e.g. `(2) Flags · prod · Web shop · Flagcast`: two unseen requests or decisions. */
export function PageTitle({ text }: { readonly text: string }) {
  const { project, environment } = useScope();
  const { unseen } = useConcerns();
  const count = unseen.length === 0 ? '' : `(${unseen.length}) `;
  const title = `${count}${text} · ${visible(environment.key)} · ${visible(project.name)} · Flagcast`;
  // After the page: the browser draws the title outside of it, which costs more than most changes of the page.
  return <title>{useDeferredValue(title)}</title>;
}
