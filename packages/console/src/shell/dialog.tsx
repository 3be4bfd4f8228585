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

export interface FormDialogProps extends DialogProps {
  readonly submitLabel: string;
  /** Default: the theme's. */
  readonly submitColor?: string;
  /** Default: `Cancel`. */
  readonly cancelLabel?: string;
  /** The button that has the focus at first. Default: neither, but an input with `data-autofocus`. */
  readonly focus?: 'submit' | 'cancel';
  /** Whether it can be submitted. Default true. */
  readonly ready?: boolean;
  readonly busy?: boolean;
  readonly onSubmit: () => void;
}

/** A dialog with inputs or a question, and the buttons to submit and to cancel. */
export const FormDialog = lazyPart<FormDialogProps>(lazyRoutes.formDialog);
