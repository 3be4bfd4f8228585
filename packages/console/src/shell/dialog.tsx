import type { ReactNode } from 'react';
import { lazyPart } from './lazy-part.js';
import { lazyRoutes } from './lazy-routes.js';

export interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ReactNode;
}

/** A centered dialog, open while it is mounted. */
export const Dialog = lazyPart<DialogProps>(lazyRoutes.modal);
